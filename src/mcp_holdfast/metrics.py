"""What is counted, for Prometheus: a function for each thing that happens, whose types are all that labels may say.

Nothing from outside becomes the value of a label: no client, user, path or host. Names follow Prometheus' rules
(https://prometheus.io/docs/practices/naming/). Where nobody can ask (no HOLDFAST_METRICS_TOKEN), this counts in memory.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess, values

Endpoint = Literal[
    "mcp",
    "listen",
    "token",
    "authorize",
    "callback",
    "register",
    "revoke",
    "signin",
    "consent",
    "metadata",
    "health",
    "metrics",
    "other",
]
"""`listen` is GET at the MCP endpoint: an event stream that may be open for hours."""

StatusClass = Literal["1xx", "2xx", "3xx", "4xx", "5xx", "none"]
"""`none` where the connection ended before there was an answer."""

Grant = Literal["authorization_code", "refresh_token"]
ExchangeResult = Literal["issued", "replayed", "refused", "later"]
Operation = Literal["get", "ttl", "put", "add", "delete", "entries"]
Outcome = Literal["done", "failed", "late", "abandoned"]
"""`abandoned` where who asked for it went away."""

QuarantineReason = Literal["damaged", "unsealed", "wrong_seal", "redated"]
Removed = Literal["expired", "temporary", "quarantined"]
UpstreamRequest = Literal["code", "refresh", "other"]
UpstreamResult = Literal["answered", "refused", "later", "unreachable"]

REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STORE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 8)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class _Metrics:
    """All of them, each at 0 from the start: else Prometheus would not see the first increase."""

    def __init__(self) -> None:
        # Not the library's own, in which a payload may register the same names.
        self.registry = CollectorRegistry()
        self.requests = self._counter("http_requests", "HTTP requests.", endpoint=Endpoint, status=StatusClass)
        self.request_seconds = self._histogram(
            "http_request_duration_seconds",
            "From a request to the end of its answer.",
            REQUEST_BUCKETS,
            endpoint=Endpoint,
        )
        self.exchanges = self._counter(
            "exchanges", "Codes and refresh tokens that came to be exchanged.", grant=Grant, result=ExchangeResult
        )
        self.claims_lost = self._counter(
            "claims_lost", "Exchanges given up because another process had taken them over.", grant=Grant
        )
        self.reuse = self._counter(
            "reuse_detected", "Codes and refresh tokens used again, which ended their session.", grant=Grant
        )
        self.operations = self._counter(
            "store_operations", "Tries of operations of the store.", operation=Operation, outcome=Outcome
        )
        self.operation_seconds = self._histogram(
            "store_operation_duration_seconds", "How long a try took.", STORE_BUCKETS, operation=Operation
        )
        self.quarantined = self._counter(
            "records_quarantined", "Records that could not be trusted and were set aside.", reason=QuarantineReason
        )
        self.sweeps = self._counter("sweeps", "Turns of the sweeper.")
        self.examined = self._counter("sweep_examined", "Records and files that the sweeper looked at.")
        self.removed = self._counter("sweep_removed", "Records and files that the sweeper removed.", kind=Removed)
        self.upstream = self._counter(
            "upstream_requests",
            "Requests to the identity provider and to clients' hosts.",
            request=UpstreamRequest,
            result=UpstreamResult,
        )
        self.upstream_seconds = self._histogram(
            "upstream_request_duration_seconds", "Until it began to answer.", REQUEST_BUCKETS, request=UpstreamRequest
        )
        self.sessions = Gauge(
            "holdfast_sessions",
            "Records of sessions in the store, for all replicas alike.",
            multiprocess_mode="livemostrecent",
            registry=self.registry,
        )
        self.lag_seconds = self._histogram(
            "event_loop_lag_seconds", "How late the event loop wakes who asked to be woken.", LAG_BUCKETS
        )

    def _counter(self, name: str, help_text: str, **labels: object) -> Counter:
        counter = Counter(f"holdfast_{name}", help_text, list(labels), registry=self.registry)
        _begin_at_zero(counter, labels)
        return counter

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], **labels: object) -> Histogram:
        histogram = Histogram(f"holdfast_{name}", help_text, list(labels), buckets=buckets, registry=self.registry)
        _begin_at_zero(histogram, labels)
        return histogram


def _begin_at_zero(metric: Counter | Histogram, labels: Mapping[str, object]) -> None:
    if labels:
        for combination in product(*(get_args(kind) for kind in labels.values())):
            metric.labels(*combination)


_metrics = _Metrics()


def made_directory() -> Path:
    """Make a temporary directory for `shared_by_processes`.

    Raises:
        OSError: there is nowhere to make it.

    """
    return Path(mkdtemp(prefix="holdfast-metrics-"))


@contextmanager
def shared_by_processes(directory: Path) -> Iterator[None]:
    """Count in files of a directory, for this process and those that it forks inside the block; then remove it."""
    global _metrics
    owner = os.getpid()
    os.environ[DIRECTORY_VARIABLE] = str(directory)
    # The library chose when it was imported, which is before the settings were read.
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
    _metrics = _Metrics()
    try:
        yield
    finally:
        # A worker leaves this block, too, when it ends.
        if os.getpid() == owner:
            shutil.rmtree(directory, ignore_errors=True)


def process_ended(process_id: int) -> None:
    """Forget what was true of a process while it lived; what it counted stays counted."""
    if DIRECTORY_VARIABLE in os.environ:
        multiprocess.mark_process_dead(process_id)  # type: ignore[no-untyped-call]


def exposition() -> bytes:
    """What was counted since the start, by all who share it, in Prometheus' text format."""
    if DIRECTORY_VARIABLE not in os.environ:
        return generate_latest(_metrics.registry)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def count_request(endpoint: Endpoint, status: StatusClass, seconds: float) -> None:
    _metrics.requests.labels(endpoint, status).inc()
    _metrics.request_seconds.labels(endpoint).observe(seconds)


def count_exchange(grant: Grant, result: ExchangeResult) -> None:
    _metrics.exchanges.labels(grant, result).inc()


def count_lost_claim(grant: Grant) -> None:
    _metrics.claims_lost.labels(grant).inc()


def count_reuse(grant: Grant) -> None:
    _metrics.reuse.labels(grant).inc()


def count_operation(operation: Operation, outcome: Outcome, seconds: float) -> None:
    _metrics.operations.labels(operation, outcome).inc()
    _metrics.operation_seconds.labels(operation).observe(seconds)


def count_quarantined(reason: QuarantineReason) -> None:
    _metrics.quarantined.labels(reason).inc()


def count_sweep(*, examined: int, expired: int, temporary: int, quarantined: int) -> None:
    _metrics.sweeps.inc()
    _metrics.examined.inc(examined)
    _metrics.removed.labels("expired").inc(expired)
    _metrics.removed.labels("temporary").inc(temporary)
    _metrics.removed.labels("quarantined").inc(quarantined)


def count_upstream(request: UpstreamRequest, result: UpstreamResult, seconds: float) -> None:
    _metrics.upstream.labels(request, result).inc()
    _metrics.upstream_seconds.labels(request).observe(seconds)


def tell_sessions(number: int) -> None:
    _metrics.sessions.set(number)


def observe_lag(seconds: float) -> None:
    _metrics.lag_seconds.observe(seconds)
