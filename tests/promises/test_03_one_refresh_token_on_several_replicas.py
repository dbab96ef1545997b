"""Promise 3: one refresh token, used at once on several replicas, is refreshed once and answered alike."""

from concurrent.futures import ThreadPoolExecutor

from harness.oauth import OAuthClient
from promises.conftest import SCALE, StartReplicas, Tell

REPLICAS = 4
AT_ONCE = 8
SESSIONS = 5 * SCALE


def test_concurrent_refreshes_are_one(start_replicas: StartReplicas, tell: Tell) -> None:
    replicas = start_replicas(REPLICAS)
    before, reused = replicas.provider.refreshes(), replicas.provider.reuses()
    rivals = [OAuthClient(replicas.http(number % REPLICAS)) for number in range(AT_ONCE)]
    alike = alive = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(SESSIONS):
            client = replicas.client()
            token = client.tokens["refresh_token"]
            for rival in rivals:
                rival.client_id = client.client_id
            answers = list(pool.map(lambda rival: rival.refresh(token), rivals))  # noqa: B023  # used before the next
            bodies = {answer.text for answer in answers}
            alike += len(bodies) == 1 and all(answer.status_code == 200 for answer in answers)
            client.tokens = next((answer.json() for answer in answers if answer.status_code == 200), client.tokens)
            alive += client.call().status_code == 200
    upstream = replicas.provider.refreshes() - before
    dead = [replicas.provider.reuses() - reused, SESSIONS - alive]
    tell(
        f"3. {SESSIONS} refresh tokens, each used {AT_ONCE} times at once on {REPLICAS} replicas",
        f"{alike} answered alike, {upstream} upstream refreshes, {dead[0]} families revoked, {dead[1]} sessions dead",
        alike == upstream == SESSIONS and dead == [0, 0],
    )
