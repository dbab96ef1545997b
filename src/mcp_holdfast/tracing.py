"""Traces, for OpenTelemetry: a span for each request, exchange, operation of the store and request to a provider.

Nothing that anyone sent becomes a name or an attribute: only words of ours, numbers and names of collections. Where no
collector is configured nothing of OpenTelemetry's SDK is imported, and a span costs a comparison.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from mcp_holdfast import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

Kind = Literal["SERVER", "CLIENT", "INTERNAL"]
Tell = Callable[[str, str | int], None]

SENT_WITHIN = 3.0
"""Seconds for what was not sent yet when the process ends; a collector that hangs must not hold up a stop."""

_tracer: "Tracer | None" = None
_provider: "TracerProvider | None" = None


@contextmanager
def span(
    name: str,
    kind: Kind = "INTERNAL",
    *,
    attributes: Mapping[str, str | int] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Tell]:
    """Trace what is done in the block; what is yielded tells more about it.

    `headers` are those of a request that may belong to a trace already (W3C Trace Context). Of an exception only the
    class is told: its text may hold what nobody is to see.
    """
    if _tracer is None:
        yield _tell_nobody
        return
    from opentelemetry import propagate, trace

    with _tracer.start_as_current_span(
        name,
        context=None if headers is None else propagate.extract(headers),
        kind=trace.SpanKind[kind],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current.set_attribute
        except Exception as error:
            current.set_attribute("error.type", type(error).__qualname__)
            current.set_status(trace.StatusCode.ERROR)
            raise


def tell(name: str, value: str | int) -> None:
    """Tell more about the innermost span."""
    if _tracer is not None:
        from opentelemetry import trace

        trace.get_current_span().set_attribute(name, value)


def _tell_nobody(_name: str, _value: str | int) -> None:
    pass


def try_to_begin() -> None:
    """Import and make once all that `begin` needs, for who is going to fork.

    Raises:
        ImportError: OpenTelemetry's SDK or exporter is not installed.
        ValueError: one of its variables is wrong.

    """
    _made_provider().shutdown()


def begin() -> None:
    """Send the spans of this process to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, FastMCP's among them."""
    global _tracer, _provider
    from opentelemetry import propagate, trace
    from opentelemetry.propagators.composite import CompositePropagator

    _provider = _made_provider()
    # It stays as it is where the payload has set up one of its own.
    trace.set_tracer_provider(_provider)
    _tracer = trace.get_tracer("mcp_holdfast", __version__)
    if os.environ.get("OTEL_PROPAGATORS", "").strip().lower() == "none":
        propagate.set_global_textmap(CompositePropagator([]))


async def end() -> None:
    """Send what was not sent yet, within SENT_WITHIN."""
    from anyio import to_thread

    if _provider is None:
        return
    # Nobody waits for a daemon: the exporter itself gives up later than that.
    ending = threading.Thread(target=_provider.shutdown, daemon=True)
    ending.start()
    await to_thread.run_sync(ending.join, SENT_WITHIN)


def _made_provider() -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    given = Resource.create()
    is_named = not str(given.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service")
    named = given if is_named else given.merge(Resource({SERVICE_NAME: "holdfast"}))
    provider = TracerProvider(resource=named, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
