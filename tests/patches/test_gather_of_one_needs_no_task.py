"""One awaitable is awaited where it is wanted, its exception is a result, and a cancellation is none."""

import asyncio

import pytest
from fastmcp.utilities.async_utils import gather


async def test_one_runs_in_the_task_that_waits_for_it() -> None:
    async def own_task() -> asyncio.Task[None] | None:
        return asyncio.current_task()

    async def fail() -> None:
        raise LookupError

    async def cancel_ourselves() -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        await asyncio.sleep(0)

    here = asyncio.current_task()
    assert here
    assert await gather(own_task(), return_exceptions=True) == [here]
    (error,) = await gather(fail(), return_exceptions=True)
    assert isinstance(error, LookupError)
    with pytest.raises(asyncio.CancelledError):
        await gather(cancel_ourselves(), return_exceptions=True)
    here.uncancel()
    several = await gather(own_task(), own_task(), fail(), return_exceptions=True)
    assert len({here, *several[:2]}) == 3
    assert isinstance(several[2], LookupError)
