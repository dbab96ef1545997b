"""The promises that do not depend on files, with each engine; the replicas share nothing else.

They are those of tests/promises, in its table. ENGINE_PROMISES=all tries all of them with each, as `make engines`
does; otherwise those that say most with the shortest run.
"""

import os
from collections.abc import Callable, Mapping

import pytest

from harness.engines import ENGINES, EngineProcess
from harness.identity_provider import IdentityProvider
from harness.journeys import ProxyJourney
from harness.selection import in_every_run
from promises import test_02_a_lost_answer as promise_2
from promises import test_03_one_refresh_token_on_several_replicas as promise_3
from promises import test_04_one_code_on_several_replicas as promise_4
from promises import test_06_the_identity_provider_fails as promise_6
from promises import test_12_a_revoked_session as promise_12
from promises.conftest import StartReplicas, Tell, start_replicas, target
from promises.conftest import tell as tell_of_replicas
from promises.test_01_killed_at_every_operation import Setting, make_setting, try_all

ALL = os.environ.get("ENGINE_PROMISES") == "all"

__all__ = ["make_setting", "start_replicas", "target", "tell_of_replicas"]


@pytest.fixture
def storage(engine: EngineProcess) -> Mapping[str, str]:
    return engine.settings()


@pytest.fixture
def tell(engine: EngineProcess, tell_of_replicas: Tell) -> Tell:
    return lambda promise, observed, kept: tell_of_replicas(f"{promise}, {engine.backend}", observed, kept)


@pytest.mark.parametrize("engine", in_every_run(("postgresql",), ENGINES), indirect=True)
def test_concurrent_refreshes_are_one(start_replicas: StartReplicas, tell: Tell) -> None:
    promise_3.test_concurrent_refreshes_are_one(start_replicas, tell)


@pytest.mark.parametrize("engine", in_every_run(("redis",), ENGINES), indirect=True)
def test_concurrent_redemptions_are_one(start_replicas: StartReplicas, tell: Tell) -> None:
    promise_4.test_concurrent_redemptions_are_one(start_replicas, tell)


@pytest.mark.parametrize("engine", ENGINES if ALL else ["postgresql"], indirect=True)
def test_a_kill_at_any_operation_ends_no_session(
    make_setting: Callable[..., Setting], provider: IdentityProvider, engine: EngineProcess, tell: Tell
) -> None:
    setting = make_setting(ProxyJourney, engine.backend, provider, **engine.settings())
    try_all("1. Killed at every operation: identity provider", setting, setting.points(), tell)


if ALL:

    def test_a_repeated_refresh_gets_the_same_tokens(start_replicas: StartReplicas, tell: Tell) -> None:
        promise_2.test_a_repeated_refresh_gets_the_same_tokens(start_replicas, tell)

    def test_a_client_that_gives_up_waiting_gets_the_tokens(start_replicas: StartReplicas, tell: Tell) -> None:
        promise_2.test_a_client_that_gives_up_waiting_gets_the_tokens_when_it_comes_back(start_replicas, tell)

    @pytest.mark.parametrize("failure", promise_6.FAILURES)
    def test_a_refresh_while_the_identity_provider_fails(
        start_replicas: StartReplicas, tell: Tell, failure: str
    ) -> None:
        promise_6.test_a_refresh_meanwhile_is_told_to_come_back(start_replicas, tell, failure)

    @pytest.mark.parametrize("kind", ["refresh_token", "access_token"])
    def test_a_revoked_session_is_refused_everywhere(start_replicas: StartReplicas, tell: Tell, kind: str) -> None:
        promise_12.test_is_refused_on_every_replica(start_replicas, tell, kind)
