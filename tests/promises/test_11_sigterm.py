"""Promise 11: SIGTERM, as at a deploy or a Spot interruption, cuts off nothing that an identity provider was asked."""

from collections.abc import Callable

import httpx
import pytest

from harness.oauth import OAuthClient
from harness.patience import patiently
from promises.conftest import StartReplicas, Tell

REFRESH_AT_EVERY_CALL = {"FASTMCP_SERVER_AUTH_OAUTHPROXY_TOKEN_EXPIRY_THRESHOLD_SECONDS": "7200"}
ANSWERS_AFTER = 24
"""In seconds: longer than a client is left waiting, shorter than the identity provider is waited for."""


@pytest.mark.parametrize(
    ("what", "begin", "environment"),
    [
        ("a refresh", OAuthClient.refresh, {}),
        ("a call that refreshes", OAuthClient.call, REFRESH_AT_EVERY_CALL),
    ],
)
def test_what_takes_longer_than_a_client_waits_is_finished_before_the_server_ends(
    start_replicas: StartReplicas,
    tell: Tell,
    what: str,
    begin: Callable[[OAuthClient], httpx.Response],
    environment: dict[str, str],
) -> None:
    replicas = start_replicas(**environment)
    (server,) = replicas.servers
    client, reuses = replicas.client(), replicas.provider.reuses()
    replicas.provider.hang_token_endpoint(ANSWERS_AFTER)
    told = begin(client).status_code
    server.terminate()
    status = server.wait_for_exit()
    replicas.provider.heal()
    server.start()
    again = [patiently(step).status_code for step in (lambda: begin(client), client.call, client.refresh)]
    families = replicas.provider.reuses() - reuses
    tell(
        f"11. SIGTERM in {what} that takes long at the identity provider",
        f"its client was told {told}; the server ended with {status}; afterwards {again}, {families} families revoked",
        told == 503 and status == 0 and again == [200] * 3 and families == 0,
    )
