"""OpenTelemetry's own variables for traces. Its SDK overlooks or only warns of much that is a problem here.

See https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mcp_holdfast.settings.environment import Environment
from mcp_holdfast.settings.problems import Problem

GENERAL, OF_TRACES = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"
ENDPOINT = f"{GENERAL}ENDPOINT"
ENDPOINTS = (f"{OF_TRACES}ENDPOINT", ENDPOINT)
PROPAGATORS = "OTEL_PROPAGATORS"

SAMPLERS_BY_RATIO = ("traceidratio", "parentbased_traceidratio")
SAMPLERS = ("always_on", "always_off", "parentbased_always_on", "parentbased_always_off", *SAMPLERS_BY_RATIO)

# RFC 9110, section 5.6.2, and what W3C Baggage lets a value be.
PAIR = re.compile(r"\s*[\w!#$%&'*+.^`|~-]+\s*=\s*[!#-+\--:<-\[\]-~]*\s*", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """What a value must be, and what to tell who set another: values are never shown, since some are secret."""

    is_good: Callable[[str], bool]
    what: str
    remedy: str


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_number(value: str, least: float, most: float) -> bool:
    try:
        return least <= float(value) <= most
    except ValueError:
        return False


def _is_readable(value: str) -> bool:
    try:
        with Path(value).open("rb"):
            return True
    except OSError:
        return False


def _is_whole(value: str) -> bool:
    return value.strip().isdecimal() and int(value) > 0


def _are_pairs(value: str) -> bool:
    return all(PAIR.fullmatch(part) for part in value.split(",") if part.strip())


def _are_propagators(value: str) -> bool:
    return {name.strip().lower() for name in value.split(",")} <= {"tracecontext", "baggage", "none"}


def _is_one_of(*values: str) -> Callable[[str], bool]:
    return lambda value: value.strip().lower() in values


PAIRS = "Write name=value pairs with commas between them, values percent-encoded"
A_FILE = Rule(_is_readable, "names a file that cannot be read", "Mount it there, readable by this user")
OF_THE_EXPORTER = {
    "ENDPOINT": Rule(_is_url, "is no http:// or https:// URL", "Give the collector's, as in http://collector:4318"),
    "PROTOCOL": Rule(
        _is_one_of("http/protobuf"),
        "is not http/protobuf, the only way that traces are sent",
        "Remove it, and give the collector's port for HTTP, usually 4318",
    ),
    "HEADERS": Rule(_are_pairs, "is not a list of headers", PAIRS),
    "TIMEOUT": Rule(lambda value: _is_number(value, 0.001, 3600), "is no number of seconds", "Write it as in 10"),
    "COMPRESSION": Rule(_is_one_of("none", "gzip", "deflate"), "is no compression", "Write gzip, deflate or none"),
    "CERTIFICATE": A_FILE,
    "CLIENT_CERTIFICATE": A_FILE,
    "CLIENT_KEY": A_FILE,
}
WHOLE_NUMBER = Rule(_is_whole, "is not a whole number from 1 on", "Correct it, or remove it")
RULES: Mapping[str, Rule] = {
    **{f"{prefix}{name}": rule for prefix in (GENERAL, OF_TRACES) for name, rule in OF_THE_EXPORTER.items()},
    **dict.fromkeys(
        (
            "OTEL_BSP_SCHEDULE_DELAY",
            "OTEL_BSP_EXPORT_TIMEOUT",
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        ),
        WHOLE_NUMBER,
    ),
    "OTEL_TRACES_EXPORTER": Rule(
        _is_one_of("otlp", "none"), "is no exporter that is here", "Write otlp, or none for no traces"
    ),
    "OTEL_TRACES_SAMPLER": Rule(_is_one_of(*SAMPLERS), "is no sampler", f"Write one of {', '.join(SAMPLERS)}"),
    "OTEL_RESOURCE_ATTRIBUTES": Rule(_are_pairs, "is not a list of attributes", PAIRS),
    PROPAGATORS: Rule(
        _are_propagators, "names a propagator that is not here", "Write tracecontext, baggage, both, or none"
    ),
    "OTEL_SDK_DISABLED": Rule(_is_one_of("true", "false"), "is neither true nor false", "Write true or false"),
}
A_RATIO = Rule(
    lambda value: _is_number(value, 0, 1), "is no number from 0 to 1, which this sampler needs", "Write it as in 0.1"
)


def wants_traces(environment: Environment) -> bool:
    """Whether spans are to be sent to a collector."""
    values = environment.values
    if values.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or _exporter(values) == "none":
        return False
    return _exporter(values) == "otlp" or any(environment.is_set(name) for name in ENDPOINTS)


def telemetry_problems(environment: Environment) -> Iterator[Problem]:
    """What would keep traces from being sent as they were meant to be."""
    if not wants_traces(environment):
        return
    rules = dict(RULES)
    if environment.values.get("OTEL_TRACES_SAMPLER", "").strip().lower() in SAMPLERS_BY_RATIO:
        rules["OTEL_TRACES_SAMPLER_ARG"] = A_RATIO
    for name, rule in rules.items():
        if name in environment.values and not rule.is_good(environment.values[name]):
            yield Problem(environment.origin(name), rule.what, rule.remedy)


def telemetry_warnings(environment: Environment) -> Iterator[str]:
    """What is set for traces that nobody gets."""
    values = environment.values
    is_off = _exporter(values) == "none" or "OTEL_SDK_DISABLED" in values
    set_in_vain = [] if is_off or wants_traces(environment) else sorted(RULES.keys() & values.keys())
    if set_in_vain:
        yield f"{set_in_vain[0]} is set, but no traces are sent: set {ENDPOINT} to where"


def _exporter(values: Mapping[str, str]) -> str:
    return values.get("OTEL_TRACES_EXPORTER", "").strip().lower()
