"""Traces: what a collector is sent about a sign-in, a refresh and a call, and that none of it is secret."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from harness.collector import Collector, attributes_of
from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import PIN, Server, free_port
from harness.waiting import HANGS_AFTER, eventually
from integration.conftest import StartServer

COLLECTORS_KEY = "the-key-of-the-collector"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


@dataclass
class Journey:
    """A client that signed in, refreshed and called a tool, and what the collector was told of all that."""

    server: Server
    client: OAuthClient
    collector: Collector
    secrets: Sequence[str]

    def spans(self, name: str) -> list[Span]:
        return [span for span in self.collector.spans() if span.name == name]

    def span(self, name: str) -> Span:
        return self.spans(name)[0]

    def children(self, parent: Span) -> list[Span]:
        return [span for span in self.collector.spans() if span.parent_span_id == parent.span_id]


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    directory = tmp_path_factory.mktemp("traces")
    provider = IdentityProvider(directory / "identity-provider").start()
    with Collector() as collector:
        server = Server(
            directory / "data",
            directory / "server.log",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer%20{COLLECTORS_KEY}",
            OTEL_BSP_SCHEDULE_DELAY="50",
            HOLDFAST_REPLICAS="true",
            HOLDFAST_STORAGE_KEY="k" * 40,
            HOLDFAST_SIGNING_KEY="s" * 40,
            HOLDFAST_METRICS_TOKEN="m" * 40,
        )
        server.environment.update(proxy_environment(provider, server.url))
        server.start()
        with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
            client = OAuthClient(http, person=ProxyPerson(quick=True))
            client.register().raise_for_status()
            code = client.code()
            client.redeem(code).raise_for_status()
            first = client.tokens
            client.refresh().raise_for_status()
            client.refresh("not-a-refresh-token")
            traced = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
            http.get("/a-path-that-a-stranger-made-up", headers=traced)
            http.request("PROPFIND", "/token")
            client.call_tool("whoami").raise_for_status()
            secrets = [code, client.verifier, provider.client_secret, "k" * 40, "s" * 40, "m" * 40]
            secrets += [tokens[kind] for tokens in (first, client.tokens) for kind in ("access_token", "refresh_token")]
            made = Journey(server, client, collector, secrets)
            # A span is sent when it has ended, and an exchange ends after its answer.
            names = ("exchange authorization_code", "exchange refresh_token", "POST /mcp")
            eventually(lambda: [len(made.spans(name)) for name in names], [1, 2, 2].__eq__)
            yield made
        server.stop()
    provider.stop()


def test_a_request_is_a_span_with_its_path_and_status(journey: Journey) -> None:
    span = journey.span("POST /token")
    assert span.kind == Span.SPAN_KIND_SERVER
    assert attributes_of(span) == {
        "http.request.method": "POST",
        "http.route": "/token",
        "http.response.status_code": 200,
    }
    assert journey.collector.services() == {"holdfast"}


def test_below_it_are_the_exchange_its_operations_of_the_store_and_the_question_to_the_provider(
    journey: Journey,
) -> None:
    (exchange,) = journey.children(journey.span("POST /token"))
    assert exchange.name == "exchange authorization_code"
    assert attributes_of(exchange) == {"holdfast.exchange.result": "issued"}
    (get, *_) = [span for span in journey.children(exchange) if span.name == "store get"]
    assert attributes_of(get) == {"db.operation.name": "get", "holdfast.store.outcome": "done"}
    upstream = journey.span("upstream refresh")
    assert upstream.kind == Span.SPAN_KIND_CLIENT
    assert attributes_of(upstream) == {"http.response.status_code": 200}
    refreshes = journey.spans("exchange refresh_token")
    (refresh,) = [span for span in refreshes if attributes_of(span) == {"holdfast.exchange.result": "issued"}]
    assert upstream.trace_id == refresh.trace_id


def test_a_refused_exchange_says_so(journey: Journey) -> None:
    results = [attributes_of(span)["holdfast.exchange.result"] for span in journey.spans("exchange refresh_token")]
    assert sorted(results) == ["issued", "refused"]


def test_a_tool_call_is_in_the_trace_of_its_request(journey: Journey) -> None:
    call = journey.span("tools/call whoami")
    parents = {span.span_id: span.name for span in journey.collector.spans()}
    assert parents[call.parent_span_id] == "POST /mcp"


def test_a_request_goes_on_with_the_trace_that_it_belongs_to(journey: Journey) -> None:
    (span,) = [span for span in journey.spans("GET") if span.trace_id.hex() == TRACE]
    assert span.parent_span_id.hex() == CALLER
    assert attributes_of(span) == {"http.request.method": "GET", "http.response.status_code": 404}


def test_a_method_that_was_made_up_is_not_told(journey: Journey) -> None:
    assert attributes_of(journey.span("_OTHER /token"))["http.request.method"] == "_OTHER"


def test_health_checks_and_metrics_are_no_spans(journey: Journey) -> None:
    assert not [span for span in journey.collector.spans() if re.search("readyz|livez|metrics", span.name)]


def test_no_secret_and_no_path_of_a_stranger_is_sent(journey: Journey) -> None:
    for body in journey.collector.bodies:
        for secret in [*journey.secrets, "a-path-that-a-stranger-made-up", "PROPFIND", COLLECTORS_KEY]:
            assert secret.encode() not in body
    assert COLLECTORS_KEY not in journey.server.output()
    assert {headers["authorization"] for headers in journey.collector.headers} == {f"Bearer {COLLECTORS_KEY}"}


def test_an_outage_of_the_store_is_an_error_of_both_spans(start_server: StartServer, tmp_path: Path) -> None:
    with Collector() as collector:
        server = start_server(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50")
        records = tmp_path / "data" / "oauth-proxy"
        records.rename(tmp_path / "elsewhere")
        records.write_text("not a directory")
        with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
            assert OAuthClient(http).register().status_code == 503
        failed = eventually(
            lambda: [span for span in collector.spans() if span.status.code == Status.STATUS_CODE_ERROR], bool
        )
        assert {attributes_of(span)["holdfast.store.outcome"] for span in failed} == {"failed"}
        answered = eventually(lambda: [span for span in collector.spans() if span.name == "POST /register"], bool)
        assert attributes_of(answered[0])["error.type"] == "503"
        assert PIN.encode() not in b"".join(collector.bodies)


def test_a_stop_sends_what_was_not_sent_and_does_not_wait_for_a_collector_that_is_away(
    start_server: StartServer,
) -> None:
    with Collector() as collector:
        server = start_server(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="600000")
        httpx.get(f"{server.url}/.well-known/oauth-authorization-server").raise_for_status()
        assert not collector.spans()
        server.terminate()
        assert server.wait_for_exit() == 0
        assert "GET /.well-known/" in {span.name for span in collector.spans()}
    server.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    server.start()
    httpx.get(f"{server.url}/.well-known/oauth-authorization-server").raise_for_status()
    server.terminate()
    assert server.wait_for_exit() == 0
