"""Promise 6: while the identity provider fails nobody is told to sign in again, and afterwards everything works."""

from collections.abc import Callable

import pytest

from harness.identity_provider import IdentityProvider
from harness.patience import patiently
from promises.conftest import StartReplicas, Tell

FAILURES: dict[str, Callable[[IdentityProvider], object]] = {
    "answers 429": lambda provider: provider.fail_token_endpoint(429),
    "answers 500": lambda provider: provider.fail_token_endpoint(500),
    "answers 503": lambda provider: provider.fail_token_endpoint(503),
    "is gone": lambda provider: provider.kill(),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_refresh_meanwhile_is_told_to_come_back(start_replicas: StartReplicas, tell: Tell, failure: str) -> None:
    replicas = start_replicas()
    client = replicas.client()
    FAILURES[failure](replicas.provider)
    try:
        meanwhile = client.refresh()
    finally:
        replicas.provider.start() if failure == "is gone" else replicas.provider.heal()
    after = patiently(client.refresh)
    tell(
        f"6. The identity provider {failure} at a refresh",
        f"{meanwhile.status_code} {meanwhile.json().get('error')}, afterwards {after.status_code}",
        meanwhile.status_code == 503 and "retry-after" in meanwhile.headers and after.status_code == 200,
    )


def test_its_refusal_is_still_a_refusal(start_replicas: StartReplicas, tell: Tell) -> None:
    replicas = start_replicas()
    client = replicas.client()
    replicas.provider.revoke_all()
    refused = client.refresh().json().get("error")
    tell("6. The identity provider ended the session", f"{refused}", refused == "invalid_grant")
