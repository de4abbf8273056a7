"""Traces of predictions: continued from the caller's, made of the steps of a request, and free where nobody asks."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import pytest

from gateway.observability.tracing import PredictionTracer, Step, open_tracer

pytest.importorskip("opentelemetry.sdk")

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {b"traceparent": f"00-{TRACE}-{PARENT}-01".encode(), b"host": b"localhost"}
WHOLE = Step("predict request", 10.0, 10.5)
STEPS = [Step("queue", 10.1, 10.2), Step("predict", 10.2, 10.4)]


def recorded(headers, failure=None):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = PredictionTracer(provider)
    tracer.record(headers, WHOLE, STEPS, attributes={"titlebout.arm": "champion"}, failure=failure)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    tracer.close()
    return spans


def test_a_request_is_a_span_with_its_steps_inside_and_continues_its_callers_trace():
    spans = recorded(HEADERS)
    request = spans["predict request"]
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert request.attributes["titlebout.arm"] == "champion"
    assert request.status.is_unset
    assert set(spans) == {"predict request", "queue", "predict"}
    for name, took_s in (("predict request", 0.5), ("queue", 0.1), ("predict", 0.2)):
        assert (spans[name].end_time - spans[name].start_time) / 1e9 == pytest.approx(took_s, abs=1e-3)
    assert spans["queue"].parent.span_id == request.context.span_id
    assert spans["queue"].start_time > request.start_time


def test_a_caller_that_does_not_sample_is_heeded_and_one_without_a_trace_begins_one():
    assert recorded({**HEADERS, b"traceparent": HEADERS[b"traceparent"][:-1] + b"0"}) == {}
    assert recorded({b"traceparent": b"nonsense"})["predict request"].parent is None
    assert recorded({})["predict request"].parent is None


def test_a_failure_says_its_code():
    request = recorded({}, failure="DEADLINE_EXCEEDED")["predict request"]
    assert not request.status.is_ok
    assert request.attributes["error.type"] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="nothing said"),
        pytest.param({"OTEL_SERVICE_NAME": "x"}, id="no place to send them"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, id="none asked for"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, id="switched off"),
        pytest.param({"OTEL_TRACES_EXPORTER": "carrier-pigeon"}, id="no exporter that is known"),
    ],
)
def test_there_is_no_tracer_where(environment):
    assert open_tracer(environment) is None


def test_a_worker_imports_none_of_it_by_itself():
    program = "import sys, gateway.worker; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.fixture
def collector():
    """The URL of an OTLP receiver, and the requests that it gets."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    received = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            received.put((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


@pytest.mark.e2e
def test_a_collector_gets_the_trace_of_a_prediction(serve, collector):
    from tests.gateway.test_serving import ask, wait_until_served
    from tests.training import constant_classifier, register, set_alias

    url, received = collector
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_SERVICE_NAME": "bouts"}
    server = serve(environment=environment)
    register(server.url, "iris", constant_classifier(0))
    set_alias(server.url, "iris", "champion", 1)
    wait_until_served(server.url, "iris", champion=1)
    assert ask(server.url, traceparent=HEADERS[b"traceparent"].decode()).is_success
    path, exported = received.get(timeout=30)
    assert path == "/v1/traces"
    (resource,) = exported.resource_spans
    assert "bouts" in {attribute.value.string_value for attribute in resource.resource.attributes}
    spans = {span.name: span for scope in resource.scope_spans for span in scope.spans}
    assert set(spans) == {"predict request", "decode", "queue", "predict", "encode"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert spans["predict request"].parent_span_id.hex() == PARENT


def test_a_header_for_the_collector_that_cannot_be_read_is_told_of_and_not_shown():
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": "planted-secret"}
    program = (
        "import os; from gateway.observability.logs import configure_logging; configure_logging('DEBUG', 'json');"
        "from gateway.observability.tracing import open_tracer; open_tracer(os.environ).close()"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stderr
    assert "Header format invalid" in told
    assert "planted-secret" not in told
