"""OpenTelemetry traces of predictions, behind the extra `otel`, set up by the standard ``OTEL_*`` variables.

Spans are made after the answer is sent, of instants that are taken anyway. Without the extra, or without a variable
that says where traces go, nothing is imported and nothing costs anything.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_log = logging.getLogger(__name__)

_SERVICE = "titlebout"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_CONTINUED = ("traceparent", "tracestate")


class Step(msgspec.Struct, frozen=True):
    """A part of a request, by `time.monotonic`."""

    name: str
    began_s: float
    ended_s: float


class PredictionTracer:
    """Makes a trace of each prediction, or a part of its caller's by W3C's ``traceparent``."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import trace  # noqa: PLC0415  (see this module's docstring; the same below)
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._provider = provider
        self._tracer = provider.get_tracer(_SERVICE)
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()

    def record(
        self,
        headers: Mapping[bytes, bytes],
        whole: Step,
        steps: Iterable[Step],
        *,
        attributes: Mapping[str, str | int],
        failure: str | None,
    ) -> None:
        """Note one request and its *steps*; *failure* is the code of its error."""
        carrier = {name: headers[key].decode("latin-1") for name in _CONTINUED if (key := name.encode()) in headers}
        offset_s = time.time() - time.monotonic()
        span = self._tracer.start_span(
            whole.name,
            context=self._propagator.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            attributes=attributes,
            start_time=_ns(whole.began_s + offset_s),
        )
        if span.is_recording():
            within = self._trace.set_span_in_context(span)
            for step in steps:
                child = self._tracer.start_span(step.name, context=within, start_time=_ns(step.began_s + offset_s))
                child.end(_ns(step.ended_s + offset_s))
            if failure is not None:
                span.set_attribute("error.type", failure)
                span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, failure))
        span.end(_ns(whole.ended_s + offset_s))

    def close(self) -> None:
        """Send what there is still to be sent."""
        self._provider.shutdown()


def open_tracer(environment: Mapping[str, str]) -> PredictionTracer | None:
    """What *environment* asks for; None if it asks for no traces, or what it asks for isn't there."""
    wanted = _exporter_wanted(environment)
    if wanted is None:
        return None
    try:
        return PredictionTracer(_provider(wanted))
    except ImportError as error:
        reason = f"needs {error.name!r}, which isn't installed: install titlebout[otel]"
    except ValueError as error:
        reason = str(error)
    _log.warning("tracing_unavailable", extra={"reason": reason})
    return None


def _exporter_wanted(environment: Mapping[str, str]) -> str | None:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    default = "otlp" if any(environment.get(name) for name in _ENDPOINTS) else "none"
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip() or default
    return None if named == "none" else named


def _provider(exporter: str) -> "TracerProvider":
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    # Given attributes go before those of the environment, so ours is given only where nobody named the service.
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": _SERVICE}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    return provider


def _exporter(name: str) -> Any:
    match name:
        case "otlp":
            logging.getLogger("opentelemetry.util.re").addFilter(_without_values)
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

            return OTLPSpanExporter()
        case "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415

            return ConsoleSpanExporter()
        case _:
            raise ValueError(f"OTEL_TRACES_EXPORTER={name!r} can't be used; expected otlp, console or none")


def _without_values(record: logging.LogRecord) -> bool:
    """Tell of a header in ``OTEL_EXPORTER_OTLP_HEADERS`` that can't be read, but don't show it: it is a credential."""
    record.args = ("(not shown)",) if record.args else record.args
    return True


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
