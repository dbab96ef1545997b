"""Whom the connections of tests trust: what the system trusts, read once.

httpx reads that for each client and each single request anew, which takes longer than all else of a request (17 to 48
ms of CPU time), and who waits for a server asks it often.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx
import pytest

NAMES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables that name the authorities for all of a process."""


@contextmanager
def read_once() -> Iterator[None]:
    """Have httpx share what it read between all connections for which the same is to be read."""

    @cache
    def read(*, named: tuple[str | None, ...], **options: Any) -> ssl.SSLContext:
        return httpx.create_ssl_context(**options)

    def shared(**options: Any) -> ssl.SSLContext:
        return read(named=tuple(map(os.environ.get, NAMES)), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", shared)
        yield
