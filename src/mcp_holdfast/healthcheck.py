"""The image's health check, `python -m mcp_holdfast.healthcheck`: exit 1 and why where a restart would help, else 0.

ECS ends a task that fails it, so it fails where the process does not answer, and where the volume neither answers nor
says why: a new task gets a new mount. It does not ask /readyz: an engine, a full volume or an identity provider that is
away is away for the next task too, and that one could not even start (docs/fargate.md).

Of the standard library alone, since it starts a Python every few seconds.
"""

import errno
import os
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Thread

ANSWERS_WITHIN = 4.0
"""Seconds for the process, and as many for the volume: together less than the time limit of the check."""

TOUCHED = ".health"
"""The file below FASTMCP_HOME that is written to; one for all replicas."""

NOT_HEALED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
}
"""What a volume may say to the next task as well."""


class Unhealthy(Exception):
    """A restart may help."""


def main() -> int:
    try:
        _ask_the_process()
        answer, status = _touch_the_volume(), 0
    except Unhealthy as error:
        answer, status = str(error), 1
    sys.stdout.write(f"{answer}\n")
    return status


def _ask_the_process() -> None:
    connection = HTTPConnection("127.0.0.1", int(_setting("PORT", "8000")), timeout=ANSWERS_WITHIN)
    try:
        connection.request("GET", "/livez")
        response = connection.getresponse()
    except (OSError, HTTPException) as error:
        raise Unhealthy(f"no answer: {error!r}") from None
    if response.status != 200:
        raise Unhealthy(f"/livez answers {response.status}")


def _touch_the_volume() -> str:
    failures: list[OSError] = []

    def touch() -> None:
        try:
            _write_to(Path(_setting("FASTMCP_HOME", "/data")) / TOUCHED)
        except OSError as error:
            failures.append(error)

    # What waits for a hung mount cannot be cut short, but it ends with its process.
    thread = Thread(target=touch, daemon=True)
    thread.start()
    thread.join(ANSWERS_WITHIN)
    if thread.is_alive():
        raise Unhealthy(f"the volume has not answered for {ANSWERS_WITHIN:.0f} s")
    if not failures:
        return "alive, and the volume answers"
    (failure,) = failures
    if failure.errno not in NOT_HEALED:
        raise Unhealthy(f"the volume fails: {failure.strerror}")
    return f"alive; a restart would not help the volume: {failure.strerror}"


def _write_to(path: Path) -> None:
    """Write something that gets to the file server now. Nothing is made or removed but once, and no link followed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.pwrite(descriptor, b"\n", 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _setting(name: str, default: str) -> str:
    if file := os.environ.get(f"{name}_FILE"):
        return Path(file).read_text(encoding="utf-8").strip()
    return os.environ.get(name) or default


if __name__ == "__main__":
    sys.exit(main())
