"""Promise 2: who repeats a refresh because its answer was lost gets the same tokens."""

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
