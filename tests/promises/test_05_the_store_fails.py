"""Promise 5: while the store fails or hangs, the answer is "later", and afterwards everything works."""

import errno
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from harness.faults import StoreFaults
from harness.patience import patiently
from promises.conftest import StartReplicas, Tell

FAILURES: dict[str, Callable[[StoreFaults], None]] = {
    "cannot be read": lambda faults: faults.fail(["get"], errno.EIO),
    "cannot be written": lambda faults: faults.fail(["put", "delete", "add"], errno.EIO),
    "is full": lambda faults: faults.fail(["put", "add"], errno.ENOSPC),
    "is read-only": lambda faults: faults.fail(["put", "delete", "add"], errno.EROFS),
    "hangs": lambda faults: faults.hang(),
}
Request = Callable[[], httpx.Response]


@pytest.mark.parametrize("failure", FAILURES)
def test_nobody_is_told_to_sign_in_again(
    start_replicas: StartReplicas, tell: Tell, tmp_path: Path, failure: str, target: str
) -> None:
    faults = StoreFaults(tmp_path / "faults.json")
    replicas = start_replicas(HOLDFAST_TOKEN_CACHE="0", **faults.environment)
    client = replicas.client()
    client.http.timeout = 15 if target == "stock" else 60
    FAILURES[failure](faults)
    requests: dict[str, Request] = {
        "refresh": client.refresh,
        "call": client.call,
        "register": lambda: replicas.new_client().register(client_name="Another one"),
    }
    meanwhile = {}
    try:
        for name, request in requests.items():
            try:
                meanwhile[name] = str(request().status_code)
            except Exception as error:  # noqa: BLE001  # stock hangs, or breaks the connection
                meanwhile[name] = type(error).__name__
    finally:
        faults.heal()
    after = [patiently(client.refresh).status_code, patiently(client.call).status_code]
    answered = set(meanwhile.values()) <= {"200", "201", "503"}
    tell(f"5. The store {failure}", f"meanwhile {meanwhile}, afterwards {after}", answered and after == [200, 200])
