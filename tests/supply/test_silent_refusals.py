"""With each backend, nothing that the image does is outside deploy/seccomp.json, not even what it can do without.

`make supply-chain` runs this: it takes a start of the server for each backend, and a kernel log to read.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote_plus

import httpx
import pytest

from harness.container import HARDENED, Container
from harness.engines import ENGINES, PostgreSQLServer
from harness.oauth import OAuthClient
from harness.waiting import HANGS_AFTER
from supply.test_seccomp import PROFILE

pytestmark = pytest.mark.skipif(os.environ.get("SUPPLY_CHAIN") != "whole", reason="part of make supply-chain")

COMMANDS = ("check", "clients", "doctor", "sessions", "sweep", "backup -")
SEEN_BY_SECCOMP = re.compile(r'type=1326 .*comm="([^"]*)".* syscall=(\d+)')


class KernelLog:
    """What the kernel writes from now on."""

    def __init__(self) -> None:
        self._file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._file, 0, os.SEEK_END)

    def calls_outside_the_profile(self) -> set[tuple[str, ...]]:
        """The programs and the numbers of their system calls."""
        return {found.groups() for record in self._records() if (found := SEEN_BY_SECCOMP.search(record))}

    def _records(self) -> Iterator[str]:
        with suppress(BlockingIOError):
            while True:
                yield os.read(self._file, 8192).decode(errors="replace")


@contextmanager
def settings_of(backend: str, directory: Path) -> Iterator[dict[str, str]]:
    """What makes a container use it. Certificates are where the container's user can read them."""
    if backend in ENGINES:
        engine = ENGINES[backend](directory)
        try:
            settings = engine.start().settings()
            if isinstance(engine, PostgreSQLServer):
                shutil.copy(engine.authority, directory)
                readable = quote_plus(str(directory / engine.authority.name))
                settings["HOLDFAST_STORAGE_URL"] = settings["HOLDFAST_STORAGE_URL"].replace(
                    quote_plus(str(engine.authority)), readable
                )
            yield settings
        finally:
            engine.kill()
    else:
        yield {"HOLDFAST_STORAGE": backend}


@pytest.fixture
def watched(tmp_path: Path) -> str:
    """The profile, but what it refuses is done and told to the kernel log."""
    profile = json.loads(PROFILE.read_text())
    profile["defaultAction"] = "SCMP_ACT_LOG"
    del profile["defaultErrnoRet"]
    (tmp_path / "watched.json").write_text(json.dumps(profile))
    return f"--security-opt=seccomp={tmp_path / 'watched.json'}"


@pytest.mark.parametrize("backend", ["filetree", "disk", "memory", *ENGINES])
def test_nothing_is_outside_the_profile(watched: str, backend: str, open_path: Path) -> None:
    log = KernelLog()
    with ExitStack() as stack:
        settings = stack.enter_context(settings_of(backend, open_path))
        certificates = f"--volume={open_path}:{open_path}:ro"
        container = Container((*HARDENED, watched, "--network=host", "--volume=/data", certificates), (), settings)
        stack.callback(container.remove)
        http = stack.enter_context(httpx.Client(base_url=container.run().wait_until_ready().url, timeout=HANGS_AFTER))
        client = OAuthClient(http).sign_in()
        client.refresh().raise_for_status()
        assert client.call().status_code == 200
        for command in COMMANDS:
            container.execute("sh", "-c", f"holdfast {command} >/dev/null || true")
        container.stop()
    assert log.calls_outside_the_profile() == set()
