"""Promise 12: a revoked session is refused everywhere within seconds, at the identity provider too."""

import pytest

from harness.waiting import eventually
from promises.conftest import StartReplicas, Tell

REPLICAS = 3
WITHIN = 15


@pytest.mark.parametrize("kind", ["refresh_token", "access_token"])
def test_is_refused_on_every_replica(start_replicas: StartReplicas, tell: Tell, kind: str) -> None:
    replicas = start_replicas(REPLICAS)
    client = replicas.client()
    everywhere = [replicas.at(number, client) for number in range(REPLICAS)]
    assert [at.call().status_code for at in everywhere] == [200] * REPLICAS
    revocations = replicas.provider.revocations()
    revoked = client.revoke(client.tokens[kind]).status_code
    try:
        calls = eventually(
            lambda: [at.call().status_code for at in everywhere], lambda all_: set(all_) == {401}, WITHIN
        )
    except TimeoutError:
        calls = [at.call().status_code for at in everywhere]
    refresh = everywhere[-1].refresh().json().get("error", "refreshed")
    upstream = replicas.provider.revocations() - revocations
    tell(
        f"12. A session revoked by its {kind.replace('_', ' ')}",
        f"/revoke {revoked}; calls on {REPLICAS} replicas within {WITHIN} s: {calls}; refresh: {refresh}; "
        f"{upstream} grant ended at the identity provider",
        set(calls) == {401} and refresh == "invalid_grant" and upstream == 1,
    )
