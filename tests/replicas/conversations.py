"""People at their clients: each calls a tool that asks back, answers, and calls it again in the same MCP session."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import ToolError
from mcp import McpError

from harness.oauth import OAuthClient
from harness.patience import patiently
from harness.waiting import eventually

THINKS_FOR = 0.2
"""Seconds that a person takes to answer: most of the time of a call."""

LONGEST_CALL = 30.0
CALLS = 5
CLEAR_ERRORS = {
    "Session terminated": "session gone",
    "This server is being stopped": "told to ask again",
    # A connection that the kernel had taken for a server that then closed its port.
    "502 Bad Gateway": "not answered",
}


@dataclass
class Conversation:
    """One client, which signed in once. A session that ended is opened anew, with tokens that were refreshed.

    `seen` counts the calls by how they ended; `unclear` has what a client could make nothing of.
    """

    oauth: OAuthClient
    url: str
    seen: Counter[str] = field(default_factory=Counter)
    unclear: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def go_on(self) -> None:
        while not self.over.is_set():
            try:
                await self._open_a_session()
            except (McpError, ToolError, httpx.HTTPError, RuntimeError) as error:
                self._note(error)
            refreshed = await asyncio.to_thread(patiently, self.oauth.refresh)
            if refreshed.status_code != httpx.codes.OK:
                self.unclear.append(f"has to sign in again: {refreshed.status_code} {refreshed.text}")

    async def _open_a_session(self) -> None:
        transport = StreamableHttpTransport(f"{self.url}/mcp", auth=self.oauth.tokens["access_token"])
        async with Client(transport, elicitation_handler=think, timeout=LONGEST_CALL) as client:
            self.seen["sessions"] += 1
            while not self.over.is_set():
                answer = (await client.call_tool("elicit")).data
                assert answer.startswith("accept Ann at "), answer
                self.seen["answered"] += 1

    def _note(self, error: Exception) -> None:
        for text, kind in CLEAR_ERRORS.items():
            if text in str(error):
                self.seen[kind] += 1
                return
        self.unclear.append(repr(error))


async def think(*_: Any) -> ElicitResult[Any]:
    await asyncio.sleep(THINKS_FOR)
    return ElicitResult(action="accept", content={"value": "Ann"})


@dataclass
class Conversations:
    """All that are held at once."""

    each: Sequence[Conversation]

    @property
    def seen(self) -> Counter[str]:
        return sum((conversation.seen for conversation in self.each), Counter())

    @property
    def unclear(self) -> list[str]:
        return [problem for conversation in self.each for problem in conversation.unclear]

    async def all_go_on(self) -> None:
        """Wait until each has come some calls further."""
        goals = [conversation.seen["answered"] + CALLS for conversation in self.each]

        def reached(answered: list[int]) -> bool:
            return all(count >= goal for count, goal in zip(answered, goals, strict=True))

        await asyncio.to_thread(eventually, lambda: [each.seen["answered"] for each in self.each], reached, 90)


@asynccontextmanager
async def held(clients: Sequence[OAuthClient], url: str) -> AsyncIterator[Conversations]:
    """Let clients that have signed in hold conversations during the block."""
    conversations = Conversations([Conversation(client, url) for client in clients])
    tasks = [asyncio.create_task(each.go_on()) for each in conversations.each]
    try:
        yield conversations
    finally:
        for each in conversations.each:
            each.over.set()
        await asyncio.gather(*tasks)
