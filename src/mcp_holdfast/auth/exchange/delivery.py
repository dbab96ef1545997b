"""Hand an answer that was made under the shield to its request if that still waits, and learn whether it was sent."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mcp_holdfast import outage
from mcp_holdfast.auth.shield import ANSWER_WITHIN, Shield, Unfinished
from mcp_holdfast.storage.atomic import LeaseBusy

log = logging.getLogger(__name__)

SENT_WITHIN = 10.0
"""Seconds until an answer that was given counts as lost: it stays recorded, to be given again."""


class Delivery:
    """An answer on its way to the client, who may have been told to come back meanwhile."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self.sending_since = 0.0
        """When it began to be sent, in seconds since the epoch: who has it cannot come back before."""
        self._was_sent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def give(self, response: Response | None) -> None:
        """Hand the answer over, unless that was done."""
        if not self._answer.done():
            self._answer.set_result(response)

    @property
    def has_answer(self) -> bool:
        """Whether there was one in time."""
        return self._answer.done() and self._answer.result() is not None

    async def wait(self, seconds: float) -> Response | None:
        """The answer; None if there is none in time, and then there will be none."""
        await asyncio.wait({self._answer}, timeout=seconds)
        self.give(None)
        return self._answer.result()

    def end(self, *, sent: bool) -> None:
        """Tell whether the answer was sent to its end."""
        self.give(None)
        if not self._was_sent.done():
            self._was_sent.set_result(sent)

    async def was_sent(self) -> bool:
        """Whether the answer that was given was sent to its end."""
        if self.has_answer:
            await asyncio.wait({self._was_sent}, timeout=SENT_WITHIN)
        return self._was_sent.done() and self._was_sent.result()


async def answer_in_time(shield: Shield, http: Request, work: Callable[[Delivery], Awaitable[None]]) -> Response:
    """Start `work`, which gives its answer to a delivery, and wait for that.

    Raises:
        Unfinished: there is no answer (yet).

    """
    delivery = Delivery()
    shield.start(_run(work, delivery))
    try:
        response = await delivery.wait(ANSWER_WITHIN)
        if await http.is_disconnected():
            delivery.end(sent=False)
    except asyncio.CancelledError:
        delivery.end(sent=False)
        raise
    if response is None:
        outage.note("it could not be done, or takes longer than a client waits")
        raise Unfinished
    return _TellingResponse(response, delivery)


async def _run(work: Callable[[Delivery], Awaitable[None]], delivery: Delivery) -> None:
    try:
        await work(delivery)
    except LeaseBusy:
        outage.note("another request for the same is still being answered")
    except Exception as error:
        if not outage.noted():
            log.exception("an exchange failed")
            outage.note(f"an exchange failed: {type(error).__name__}")
    finally:
        delivery.give(None)


class _TellingResponse(Response):
    """Sends a response and tells when that was done."""

    def __init__(self, response: Response, delivery: Delivery) -> None:
        super().__init__(response.body, response.status_code)
        self.raw_headers = response.raw_headers
        self._delivery = delivery

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._delivery.sending_since = time.time()
        try:
            await super().__call__(scope, receive, send)
        except BaseException:
            self._delivery.end(sent=False)
            raise
        self._delivery.end(sent=True)
