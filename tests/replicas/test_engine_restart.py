"""The replicas share only an engine, and both are restarted while clients sign in once, call and are asked back."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engines import ENGINES, EngineProcess
from harness.traffic import Traffic
from replicas.conftest import SignIn, Site, Tell
from replicas.conversations import held

CONVERSATIONS = 3
CALLERS = 2


@pytest.fixture(params=["redis", "postgresql"] if os.environ.get("ENGINE_PROMISES") == "all" else ["postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EngineProcess]:
    engine = ENGINES[request.param](tmp_path / "engine").start()
    yield engine
    engine.kill()


@pytest.fixture
def storage(engine: EngineProcess) -> dict[str, str]:
    return engine.settings()


@pytest.mark.long
async def test_a_restart_of_the_engine_and_of_every_replica_costs_no_sign_in(
    new_site: Site, engine: EngineProcess, sign_in: SignIn, tell: Tell
) -> None:
    clients = [sign_in(new_site.url) for _ in range(CONVERSATIONS)]
    callers = [sign_in(new_site.url) for _ in range(CALLERS)]
    async with held(clients, new_site.url) as conversations:
        await conversations.all_go_on()
        with Traffic(callers).flowing() as traffic:
            engine.restart()
            await conversations.all_go_on()
            for replica in new_site.replicas:
                replica.terminate()
                assert await asyncio.to_thread(replica.wait_for_exit) == 0
                await asyncio.to_thread(replica.start)
            engine.restart()
            await conversations.all_go_on()
    statuses = {status: count for status, count in new_site.balancer.statuses().items() if status >= "400"}
    tell(f"{engine.backend}, restarted: {dict(conversations.seen)}, other errors: {len(conversations.unclear)}")
    tell(f"{engine.backend}, restarted: final answers {dict(traffic.answers)}, of all of HAProxy: {statuses}")
    assert conversations.unclear == []
    assert set(traffic.answers) <= {200, 502}
