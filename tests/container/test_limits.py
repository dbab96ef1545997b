"""The container serves within limits on memory, processes and files, as the CIS Docker Benchmark wants them set."""

from container.conftest import RunContainer, SignIn
from harness.container import HARDENED

# As docs/image.md names them.
LIMITS = ("--memory=256m", "--pids-limit=64", "--ulimit=nofile=1024:1024")


def test_a_person_signs_in_and_calls_within_limits(run_container: RunContainer, sign_in: SignIn) -> None:
    container = run_container(flags=(*HARDENED, *LIMITS))
    client = sign_in(container.url)
    assert client.client_id in client.call_tool("whoami").text
    host = container.inspect()["HostConfig"]
    assert (host["Memory"], host["PidsLimit"]) == (256 << 20, 64)
    assert "1024" in container.execute("python", "-c", "print(open('/proc/1/limits').read())").split("open files")[1]
    assert container.state()["OOMKilled"] is False
