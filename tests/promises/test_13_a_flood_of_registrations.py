"""Promise 13: whatever a stranger registers, disk and memory stay bounded and no client that signed in is dropped."""

from pathlib import Path

import httpx

from harness.server import ServerProcess
from harness.waiting import HANGS_AFTER
from promises.conftest import SCALE, StartReplicas, Tell

REGISTRATIONS = 10_000 * SCALE
MOST_FILES = 60_000
MOST_MEMORY_GROWTH = 64 * 1024 * 1024


def test_leaves_disk_memory_and_sessions_as_they_were(
    start_replicas: StartReplicas, tell: Tell, tmp_path: Path, target: str
) -> None:
    # As shipped; the servers of other tests allow more.
    replicas = start_replicas(HOLDFAST_REGISTRATIONS_PER_MINUTE="20")
    client = replicas.client()
    memory = memory_of(replicas.servers[0])
    accepted = refused = 0
    with httpx.Client(base_url=replicas.servers[0].url, timeout=HANGS_AFTER) as stranger:
        for number in range(REGISTRATIONS):
            metadata = {"client_name": f"Stranger {number}", "redirect_uris": ["http://localhost:1/callback"]}
            status = stranger.post("/register", json=metadata).status_code
            accepted += status == 201
            refused += status == 429
    files = sum(1 for path in (tmp_path / "data").rglob("*") if path.is_file())
    growth = memory_of(replicas.servers[0]) - memory
    alive = client.refresh().status_code == client.call().status_code == 200
    tell(
        f"13. {REGISTRATIONS} registrations by a stranger",
        f"{accepted} accepted, {refused} refused with 429, {files} files, {growth >> 20} MB of memory more, "
        f"the client that signed in {'goes on' if alive else 'is gone'}",
        accepted + refused == REGISTRATIONS
        and accepted < REGISTRATIONS / 2
        and files < MOST_FILES
        and growth < MOST_MEMORY_GROWTH
        and alive,
    )


def memory_of(server: ServerProcess) -> int:
    """The resident memory, in bytes, of a server and the processes that it started."""
    leader = server.process_id
    members = [leader, *map(int, Path(f"/proc/{leader}/task/{leader}/children").read_text().split())]
    pages = sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in members)
    return pages * 4096
