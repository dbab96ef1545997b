"""Promise 2: who repeats a refresh because its answer was lost gets the same tokens."""

import httpx
import pytest

from harness.patience import patiently
from promises.conftest import SCALE, StartReplicas, Tell

SESSIONS = 5 * min(SCALE, 10)


def test_a_repeated_refresh_gets_the_same_tokens(start_replicas: StartReplicas, tell: Tell) -> None:
    replicas = start_replicas()
    same = alive = 0
    for _ in range(SESSIONS):
        client = replicas.client()
        old = client.tokens["refresh_token"]
        lost = client.refresh(old).json()
        again = client.refresh(old).json()
        same += again == lost
        alive += client.refresh(again.get("refresh_token", old)).status_code == 200
    tell(
        "2. A lost answer to a refresh",
        f"{same} of {SESSIONS} retries got the same tokens, {alive} sessions went on",
        same == alive == SESSIONS,
    )


def test_a_client_that_gives_up_waiting_gets_the_tokens_when_it_comes_back(
    start_replicas: StartReplicas, tell: Tell
) -> None:
    replicas = start_replicas()
    client = replicas.client()
    old, before, reused = client.tokens["refresh_token"], replicas.provider.refreshes(), replicas.provider.reuses()
    replicas.provider.hang_token_endpoint(2)
    client.http.timeout = httpx.Timeout(1)
    with pytest.raises(httpx.ReadTimeout):
        client.refresh(old)
    replicas.provider.heal()
    client.http.timeout = httpx.Timeout(60)
    again = patiently(lambda: client.refresh(old))
    upstream, families = replicas.provider.refreshes() - before, replicas.provider.reuses() - reused
    tell(
        "2. A client that gives up waiting for its refresh",
        f"its retry got {again.status_code}, {upstream} upstream refreshes, {families} families revoked",
        again.status_code == 200 and upstream == 1 and families == 0,
    )
