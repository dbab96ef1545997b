"""Promise 4: one authorization code, used at once on several replicas, is redeemed once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.proxy_login import ProxyPerson
from promises.conftest import SCALE, StartReplicas, Tell

REPLICAS = 4
AT_ONCE = 8
CODES = 10 * SCALE * 2


def test_concurrent_redemptions_are_one(start_replicas: StartReplicas, tell: Tell) -> None:
    replicas = start_replicas(REPLICAS)
    client = replicas.new_client()
    client.register().raise_for_status()
    rivals = [replicas.at(number % REPLICAS, client) for number in range(AT_ONCE)]
    redeemed, alive = [], 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(CODES):
            # A browser that signs in for the first time, with no cookies of earlier times.
            client.person = ProxyPerson(quick=True)
            code = client.code()
            answers = list(pool.map(lambda rival: rival.redeem(code), rivals))  # noqa: B023  # used before the next
            won = [answer.json() for answer in answers if answer.status_code == 200]
            redeemed.append(len(won))
            client.tokens = won[0] if won else {}
            alive += bool(won) and client.call().status_code == 200
    tell(
        f"4. {CODES} codes, each used {AT_ONCE} times at once on {REPLICAS} replicas",
        # Who comes when the answer has been sent is a replay, and ends the session (RFC 6749, section 4.1.2).
        f"{sum(redeemed)} redemptions, {sum(count > 1 for count in redeemed)} codes more than once, "
        f"{CODES - alive} sessions ended by a use that came too late",
        redeemed == [1] * CODES,
    )


@pytest.mark.parametrize("path", ["/token", "/token/", "/token%0A", "//token"])
def test_no_spelling_of_the_path_goes_round_the_exchange(start_replicas: StartReplicas, path: str, tell: Tell) -> None:
    replicas = start_replicas()
    client = replicas.client()
    form = {
        "grant_type": "refresh_token",
        "refresh_token": client.tokens["refresh_token"],
        "client_id": client.client_id,
    }
    answers = [client.http.post(path, data=form, follow_redirects=True) for _ in range(2)]
    statuses = [answer.status_code for answer in answers]
    same = answers[0].text == answers[1].text
    tell(
        f"4. A token exchanged at {path!r}, twice",
        f"status {statuses}, {'the same answer' if same else 'two answers'}",
        same and (statuses == [200, 200] or statuses[0] in {404, 405}),
    )
