"""Find out whether this server can fetch clients' documents, so that clients are only told so where it can.

A client that is told sends its URL, and cannot sign in where nobody can fetch that; one that is not told registers.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.request import getproxies_environment

import fastmcp
from fastmcp.server.auth.cimd import CIMDFetcher

from mcp_holdfast.auth.cimd.documents import ClientDocuments

log = logging.getLogger(__name__)

ASKED_FOR = (
    "https://claude.ai/oauth/claude-code-client-metadata",
    "https://chatgpt.com/oauth/codex/client.json",
    "https://vscode.dev/oauth/client-metadata.json",
)
"""The documents of Claude Code, Codex and VS Code, which prefer them to registration."""

ANSWERED_WITHIN = 10.0
ASKED_EVERY = 300.0
"""Seconds between two attempts, at least; while all is well there are none."""

REACH_THEM = "let the server reach claude.ai, chatgpt.com and vscode.dev by HTTPS"
TRUST_PROXY = (
    "documents are fetched through HTTPS_PROXY only with FASTMCP_SSRF_TRUST_PROXY=true; "
    "the proxy then has to refuse addresses inside your network"
)


class Detection:
    """Keeps `documents.can_fetch` true while all of `ASKED_FOR` can be had.

    It is asked for them at the start and, where one of them cannot be had, again and again. Where all could, it is
    asked again after any client's document could not be had.
    """

    def __init__(self, documents: ClientDocuments) -> None:
        self._documents = documents

    @asynccontextmanager
    async def in_background(self) -> AsyncIterator[None]:
        detecting = asyncio.create_task(self._detect())
        yield
        detecting.cancel()
        await asyncio.wait([detecting])

    async def _detect(self) -> None:
        told = None
        while True:
            self._documents.failed.clear()
            reason = await _reason_against()
            self._documents.can_fetch = reason is None
            if told != self._documents.can_fetch:
                told = self._documents.can_fetch
                _tell(reason)
            await asyncio.sleep(ASKED_EVERY)
            if reason is None:
                await self._documents.failed.wait()


async def _reason_against() -> str | None:
    """Why one of the documents cannot be had; None if all can."""
    answers = await asyncio.gather(*map(_try_to_fetch, ASKED_FOR))
    return next((reason for reason in answers if reason is not None), None)


async def _try_to_fetch(url: str) -> str | None:
    try:
        async with asyncio.timeout(ANSWERED_WITHIN):
            await CIMDFetcher().fetch(url)
    except TimeoutError:
        return f"{url} did not come in time"
    except Exception as error:  # noqa: BLE001  # whatever it is, clients can register
        return f"{url}: {error}"
    return None


def _tell(reason: str | None) -> None:
    if reason is None:
        log.info("clients may be known by their documents' URLs (HOLDFAST_CIMD=auto)")
        return
    by_proxy = getproxies_environment().keys() & {"https", "all"} and not fastmcp.settings.ssrf_trust_proxy
    log.info(
        "clients' documents cannot be fetched here, so clients register instead; HOLDFAST_CIMD=off ends the attempts",
        extra={"reason": reason, "remedy": TRUST_PROXY if by_proxy else REACH_THEM},
    )
