"""OpenTelemetry's variables: each wrong one is named with what to do about it, and never shown."""

import pytest

from mcp_holdfast.settings import Environment, telemetry_problems, telemetry_warnings, wants_traces

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
OTLP = "OTEL_EXPORTER_OTLP_"


def problems(**variables: str) -> list[str]:
    return [str(problem) for problem in telemetry_problems(Environment({**ENDPOINT, **variables}))]


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        ({f"{OTLP}ENDPOINT": "receiver:4318"}, f"{OTLP}ENDPOINT"),
        ({f"{OTLP}ENDPOINT": "http:///v1"}, f"{OTLP}ENDPOINT"),
        ({f"{OTLP}ENDPOINT": "http://collector:port"}, f"{OTLP}ENDPOINT"),
        ({f"{OTLP}TRACES_ENDPOINT": "grpc://collector"}, f"{OTLP}TRACES_ENDPOINT"),
        ({f"{OTLP}PROTOCOL": "grpc"}, f"{OTLP}PROTOCOL"),
        ({f"{OTLP}TRACES_PROTOCOL": "http/json"}, f"{OTLP}TRACES_PROTOCOL"),
        ({f"{OTLP}HEADERS": "authorization"}, f"{OTLP}HEADERS"),
        ({f"{OTLP}HEADERS": "authorization=Bearer secret"}, f"{OTLP}HEADERS"),
        ({f"{OTLP}TIMEOUT": "soon"}, f"{OTLP}TIMEOUT"),
        ({f"{OTLP}COMPRESSION": "zstd"}, f"{OTLP}COMPRESSION"),
        ({f"{OTLP}CERTIFICATE": "/no/such/file"}, f"{OTLP}CERTIFICATE"),
        ({"OTEL_TRACES_EXPORTER": "otlp,console"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "OTEL_TRACES_SAMPLER_ARG"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "5s"}, "OTEL_BSP_SCHEDULE_DELAY"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "production"}, "OTEL_RESOURCE_ATTRIBUTES"),
        ({"OTEL_PROPAGATORS": "b3"}, "OTEL_PROPAGATORS"),
        ({"OTEL_SDK_DISABLED": "perhaps"}, "OTEL_SDK_DISABLED"),
    ],
)
def test_a_wrong_variable_is_named_and_not_shown(variables: dict[str, str], names: str) -> None:
    (problem,) = problems(**variables)
    assert problem.split(":")[0].strip(" -") == names
    assert variables[names] not in problem


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {f"{OTLP}ENDPOINT": "https://collector.example.com/otlp/"},
        {f"{OTLP}PROTOCOL": "http/protobuf", f"{OTLP}COMPRESSION": "gzip", f"{OTLP}TIMEOUT": "2.5"},
        {f"{OTLP}HEADERS": "authorization=Bearer%20secret, x-tenant=a==,"},
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"},
        {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=production,service.version=1.2"},
        {"OTEL_PROPAGATORS": "tracecontext,baggage"},
        {"OTEL_BSP_SCHEDULE_DELAY": "100"},
    ],
)
def test_what_opentelemetry_takes_is_taken(variables: dict[str, str]) -> None:
    assert problems(**variables) == []


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "holdfast"}, False),
        (ENDPOINT, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_sent_where_a_collector_is_named(variables: dict[str, str], wanted: bool) -> None:
    assert wants_traces(Environment(variables)) is wanted


def test_what_is_set_for_traces_that_nobody_gets_is_warned_of() -> None:
    sampled = {"OTEL_TRACES_SAMPLER": "always_on"}
    assert [*telemetry_warnings(Environment(sampled))] == [
        "OTEL_TRACES_SAMPLER is set, but no traces are sent: set OTEL_EXPORTER_OTLP_ENDPOINT to where"
    ]
    for silent in ({}, {**sampled, **ENDPOINT}, {**sampled, "OTEL_SDK_DISABLED": "true"}):
        assert [*telemetry_warnings(Environment(silent))] == []
