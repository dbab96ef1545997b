"""Promise 3: one refresh token, used at once on several replicas, is refreshed once and answered alike."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.waiting import eventually
from promises.conftest import SCALE, StartReplicas, Tell

REPLICAS = 4
AT_ONCE = 8
SESSIONS = 5 * SCALE
LIFETIME_UPSTREAM = 3
OUR_TOKENS_LIVE_LONGER = {
    "FASTMCP_SERVER_AUTH_OAUTHPROXY_FASTMCP_ACCESS_TOKEN_EXPIRY_SECONDS": "3600",
    "HOLDFAST_REFRESH_AHEAD": "0",
}


def test_concurrent_refreshes_are_one(start_replicas: StartReplicas, tell: Tell) -> None:
    replicas = start_replicas(REPLICAS)
    reused = replicas.provider.reuses()
    rivals = [OAuthClient(replicas.http(number % REPLICAS)) for number in range(AT_ONCE)]
    alike = alive = upstream = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(SESSIONS):
            client = replicas.client()
            token = client.tokens["refresh_token"]
            for rival in rivals:
                rival.client_id = client.client_id
            before = replicas.provider.refreshes()
            answers = list(pool.map(lambda rival: rival.refresh(token), rivals))  # noqa: B023  # used before the next
            bodies = {answer.text for answer in answers}
            alike += len(bodies) == 1 and all(answer.status_code == 200 for answer in answers)
            client.tokens = next((answer.json() for answer in answers if answer.status_code == 200), client.tokens)
            upstream += replicas.provider.refreshes() - before
            alive += client.call().status_code == client.refresh().status_code == 200
    dead = [replicas.provider.reuses() - reused, SESSIONS - alive]
    tell(
        f"3. {SESSIONS} refresh tokens, each used {AT_ONCE} times at once on {REPLICAS} replicas",
        f"{alike} answered alike, {upstream} upstream refreshes, {dead[0]} families revoked, {dead[1]} sessions dead",
        alike == upstream == SESSIONS and dead == [0, 0],
    )


def test_calls_whose_upstream_token_has_expired_refresh_it_once(
    start_replicas: StartReplicas, tell: Tell, tmp_path: Path
) -> None:
    brief = IdentityProvider(tmp_path / "identity-provider", access_token_lifetime=LIFETIME_UPSTREAM).start()
    try:
        replicas = start_replicas(REPLICAS, brief, **OUR_TOKENS_LIVE_LONGER)
        client = replicas.client()
        rivals = [replicas.at(number % REPLICAS, client) for number in range(AT_ONCE)]
        expired_at = time.time() + LIFETIME_UPSTREAM + 1
        eventually(time.time, lambda now: now > expired_at)
        with ThreadPoolExecutor(AT_ONCE + 1) as pool:
            refreshed = pool.submit(client.refresh)
            calls = [answer.status_code for answer in pool.map(lambda rival: rival.call(), rivals)]
        upstream, families = brief.refreshes(), brief.reuses()
        alive = refreshed.result().status_code == client.refresh().status_code == 200
    finally:
        brief.stop()
    tell(
        f"3. {AT_ONCE} calls and a refresh at once, with a token that has expired upstream",
        f"calls {sorted(set(calls))}, {upstream} upstream refreshes, {families} families revoked, "
        f"the session {'goes on' if alive else 'is dead'}",
        calls == [200] * AT_ONCE and upstream <= 2 and families == 0 and alive,
    )
