"""Promise 8: the volume is mounted at another path, and nobody signs in again.

For another user and another host see tests/container/test_volume.py, which has the containers for that.
"""

from pathlib import Path

from harness.patience import patiently
from promises.conftest import StartReplicas, Tell


def test_sessions_go_on_at_another_path(start_replicas: StartReplicas, tell: Tell) -> None:
    replicas = start_replicas()
    (server,) = replicas.servers
    client = replicas.client()
    server.stop()
    home = Path(server.environment["FASTMCP_HOME"])
    moved = home.with_name("moved") / "elsewhere"
    moved.parent.mkdir()
    home.rename(moved)
    server.environment["FASTMCP_HOME"] = str(moved)
    server.start()
    answers = [patiently(step).status_code for step in (client.call, client.refresh, client.call)]
    registered = replicas.new_client().register(client_name="a new one").status_code
    tell(
        "8. The volume moved to another path",
        f"the session's answers {answers}, a new registration {registered}",
        answers == [200] * 3 and registered == 201,
    )
