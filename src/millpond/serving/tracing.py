"""Spans of predictions, from the caller's header to the model, sent to an OpenTelemetry collector.

Made of the times that are measured anyhow, when the answer is known; sent by a thread. They name who answered and how,
and have nothing of a request or an answer.
Source: W3C Trace Context (`traceparent`); OpenTelemetry, OTLP/HTTP and semantic conventions of HTTP servers.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from millpond.serving.domain import ServedEntity
from millpond.serving.worker_process import Answer

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_LAST_SPANS_S = 3.0
_NS = 1_000_000_000
_FIRST_FAILURE, _FIRST_FAULT = 400, 500


def open_tracing(otlp_endpoint: str | None) -> "Tracing | None":
    """What sends spans to a collector: ours of the settings, or that of OpenTelemetry's own variables; None without."""
    named = any(os.environ.get(name) for name in _ENDPOINT_VARIABLES)
    if not (otlp_endpoint or named) or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(
        resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "millpond")})
    )
    exporter = OTLPSpanExporter(endpoint=f"{otlp_endpoint.rstrip('/')}/v1/traces" if otlp_endpoint else None)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


class Tracing:
    """Begins traces; `close` sends what waits, for a moment."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("millpond.serving")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, headers: Mapping[str, str]) -> "Trace":
        """The trace of a request that has just come, which goes on with that of its caller."""
        carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        return Trace(self, self._propagator.extract(carrier), time.time_ns())

    def close(self) -> None:
        """Send what waits, if the collector takes it at once. Blocks."""
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(_LAST_SPANS_S)

    def write(self, trace: "Trace", endpoint: str, entity: ServedEntity, answer: Answer) -> None:
        """The spans of a request that is answered now."""
        from opentelemetry import trace as api

        ends = time.time_ns()
        whole = self._tracer.start_span(
            "POST /serving-endpoints/{name}/invocations",
            context=trace.parent,
            kind=api.SpanKind.SERVER,
            start_time=trace.began_ns,
            attributes={
                "http.request.method": "POST",
                "http.route": "/serving-endpoints/{name}/invocations",
                "http.response.status_code": answer.status,
                "millpond.endpoint": endpoint,
                "millpond.served_entity": entity.name,
                "millpond.model": entity.model.name,
                "millpond.model_version": entity.model.version,
            },
        )
        if answer.status >= _FIRST_FAULT:
            whole.set_status(api.StatusCode.ERROR)
        inside = api.set_span_in_context(whole, trace.parent)
        for name, starts, stops in _phases(trace.began_ns, ends, answer):
            self._tracer.start_span(name, context=inside, start_time=starts).end(stops)
        whole.end(ends)


@dataclass(frozen=True)
class Trace:
    """One request as its spans will have it."""

    tracing: Tracing
    parent: "Context"
    began_ns: int

    def end(self, endpoint: str, entity: ServedEntity, answer: Answer) -> None:
        """It is answered."""
        self.tracing.write(self, endpoint, entity, answer)


def _phases(began: int, ends: int, answer: Answer) -> list[tuple[str, int, int]]:
    """Name, start and end of each: the model's is the last, and before the features all is finding the way."""
    found, until = [], ends
    for name, seconds in (("model", answer.model_s), ("queue", answer.queue_s), ("features", answer.features_s)):
        if seconds:
            starts = max(began, until - int(seconds * _NS))
            found.append((name, starts, until))
            until = starts
    return [*found, ("route", began, until)]
