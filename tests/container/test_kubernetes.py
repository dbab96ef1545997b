"""What kubernetes/base asks of a pod, asked of the engine: it is healthy, and a sign-in is good on every replica.

There is no cluster to be had here. Volumes are prepared as a kubelet prepares them for `fsGroup`.
"""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from container.conftest import RunContainer, SignIn
from harness.container import Container, debian_image, docker
from harness.kubernetes import KUBERNETES, Manifests
from harness.server import PIN

SECRETS = "/run/secrets/holdfast"
KEYS = {"pin": PIN, "signing-key": "signing-key-" * 4, "storage-key": "storage-key-" * 4}
POD_ADDRESS = "10.1.2.3:8000"


@pytest.fixture(scope="module")
def base() -> Manifests:
    return Manifests.build(KUBERNETES / "base")


@pytest.fixture
def as_root() -> Callable[[str, str], str]:
    """Prepare a volume, mounted at /volume, with a few lines of shell."""

    def run(volume: str, script: str) -> str:
        return docker("run", "--rm", f"--volume={volume}:/volume", debian_image(), "sh", "-euc", script)

    return run


@pytest.fixture
def flags(
    base: Manifests, volume: str, make_volume: Callable[[], str], as_root: Callable[[str, str], str]
) -> tuple[str, ...]:
    """The pod's security context, resources and mounts, as flags of `docker run`."""
    pod, container = base.pod["securityContext"], base.container["securityContext"]
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}  # the engine's default too
    as_root(volume, f"chown 0:{pod['fsGroup']} /volume && chmod 2775 /volume")
    secret = base.volumes[SECRETS]["secret"]
    secrets = make_volume()
    written = "\n".join(f"printf '%s\\n' '{value}' >/volume/..1/{key}" for key, value in KEYS.items())
    linked = "\n".join(f"ln -s ..data/{key} /volume/{key}" for key in KEYS)
    owned = f"chown 0:{pod['fsGroup']} /volume/..1/* && chmod {secret['defaultMode']:o} /volume/..1/*"
    as_root(secrets, f"mkdir /volume/..1\n{written}\n{owned}\nln -s ..1 /volume/..data\n{linked}")
    return (
        f"--user={pod['runAsUser']}:{pod['runAsGroup']}",
        f"--group-add={pod['fsGroup']}",
        *(["--read-only"] if container["readOnlyRootFilesystem"] else []),
        *(f"--cap-drop={name}" for name in container["capabilities"]["drop"]),
        *([] if container["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]),
        f"--tmpfs=/tmp:size={_bytes(base.volumes['/tmp']['emptyDir']['sizeLimit'])}",
        f"--memory={_bytes(base.container['resources']['limits']['memory'])}",
        f"--volume={secrets}:{SECRETS}:ro",
    )


def _bytes(quantity: str) -> int:
    """A quantity such as 64Mi, in bytes."""
    return int(quantity[:-2]) << {"Mi": 20, "Gi": 30}[quantity[-2:]]


def test_two_pods_on_one_volume_are_healthy_and_share_a_sign_in(
    base: Manifests, flags: tuple[str, ...], run_container: RunContainer, sign_in: SignIn
) -> None:
    # Here the public URL is the first one's own, and the PIN is in the Secret alone.
    settings = {**base.settings, "HOLDFAST_PIN": ""}
    first = run_container(flags=flags, **{**settings, "HOLDFAST_BASE_URL": ""})
    second = run_container(flags=flags, **{**settings, "HOLDFAST_BASE_URL": first.url})
    for pod in (first, second):
        assert pod.execute("python", "-c", "import os; print(os.getuid())") == "10001"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert _probed(pod, base.container[probe]) == 200
    client = sign_in(first.url)
    assert client.call().status_code == 200
    client.http.base_url = httpx.URL(second.url)
    assert client.call().status_code == 200
    client.refresh().raise_for_status()
    first.stop()
    assert first.state()["ExitCode"] == 0
    assert client.call().status_code == 200


def _probed(pod: Container, probe: dict[str, Any]) -> int:
    """Ask as a kubelet does, by the pod's address."""
    path = probe["httpGet"]["path"]
    return httpx.get(f"{pod.url}{path}", headers={"Host": POD_ADDRESS}, timeout=5).status_code
