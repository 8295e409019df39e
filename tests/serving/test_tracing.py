"""Spans of predictions at a collector: they go on with the caller's trace, and have nothing of what was asked."""

import gzip
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from millpond.serving.tracing import open_tracing
from tests.databases import Databases
from tests.receivers import Receiver, receiving
from tests.serving.harness import serving_server

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
JOINED = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
UNSAMPLED = {"traceparent": f"00-{'9' * 32}-{CALLER}-00"}


def spans_of(collector: Receiver) -> list[Span]:
    """What has come, in the order of the beginnings."""
    found = []
    for headers, raw in (({k.lower(): v for k, v in told.items()}, raw) for told, raw in collector.got):
        assert headers["content-type"] == "application/x-protobuf"
        sent = ExportTraceServiceRequest.FromString(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
        found += [span for resource in sent.resource_spans for scope in resource.scope_spans for span in scope.spans]
    return sorted(found, key=lambda span: (span.start_time_unix_nano, -span.end_time_unix_nano))


def test_spans_join_the_callers_trace_and_hold_no_payload(databases: Databases, tmp_path: Path, models: Path) -> None:
    with receiving() as collector, databases.new("sqlite", tmp_path) as database:
        with serving_server(database, tmp_path, models, otlp_endpoint=collector.url) as server:
            server.create("traced", "obedient")
            assert server.ask("traced", "list", headers=JOINED).status == 200
            assert server.ask("traced", "raise:topsecret", headers=UNSAMPLED).status == 400
            assert server.ask("traced", "raise:topsecret", headers={"traceparent": "nonsense"}).status == 400
            body = {"dataframe_records": [{"do": "list"}], "stream": True}
            assert server.call("POST", "/serving-endpoints/traced/invocations", body, headers=JOINED).status == 200
        spans = spans_of(collector)  # the last ones are sent when the server stops
    joined = [span for span in spans if span.trace_id.hex() == TRACE]
    roots = [span for span in joined if span.parent_span_id.hex() == CALLER]
    assert [span.kind for span in roots] == [Span.SPAN_KIND_SERVER] * 2
    for root in roots:
        inside = {span.name: span for span in joined if span.parent_span_id == root.span_id}
        assert set(inside) == {"route", "queue", "model"}
        moments = [inside[name].start_time_unix_nano for name in ("route", "queue", "model")]
        assert [root.start_time_unix_nano, *moments] == sorted([root.start_time_unix_nano, *moments])
        assert inside["model"].end_time_unix_nano <= root.end_time_unix_nano
    told = {each.key: each.value for each in roots[0].attributes}
    assert told["millpond.model"].string_value == "obedient"
    assert told["http.response.status_code"].int_value == 200
    assert not [span for span in spans if span.trace_id.hex() == "9" * 32], "its caller wants no spans"
    (own,) = [span for span in spans if not span.parent_span_id]
    assert {each.key: each.value.int_value for each in own.attributes}["http.response.status_code"] == 400
    assert b"topsecret" not in b"".join(raw for _, raw in collector.got)
    assert "topsecret" not in str(spans)


def test_without_a_collector_nothing_is_loaded() -> None:
    assert open_tracing(None) is None
    assert open_tracing("") is None
