"""A collector for tests: OTLP over HTTP on a real socket, decoded with OpenTelemetry's own messages.

with Receiver() as collector:                      # collector.url is the base URL
    collector.answer(503, {"Retry-After": "1"})    # what the next request gets; the default is that all is taken
    ...
    collector.spans, collector.metrics             # what was taken, in order; the latest metrics by name
"""

import gzip
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PATIENCE = 20.0  # seconds, on a busy machine
MESSAGES = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}
REPLIES = {"/v1/traces": ExportTraceServiceResponse, "/v1/metrics": ExportMetricsServiceResponse}


@dataclass(frozen=True)
class Posted:
    """One request: its path, headers (lower case), message, when it came (monotonic), and what it was answered."""

    path: str
    headers: Mapping[str, str]
    message: Any
    at: float
    status: int

    @property
    def spans(self) -> list[Any]:
        return [span for group in self.message.resource_spans for scope in group.scope_spans for span in scope.spans]


def value_of(value: Any) -> Any:
    """An AnyValue as Python's own."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return getattr(value, kind)


def attributes_of(thing: Any) -> dict[str, Any]:
    """The attributes of a span, a resource or a point; none twice."""
    found = {pair.key: value_of(pair.value) for pair in thing.attributes}
    assert len(found) == len(thing.attributes)
    return found


class Receiver:
    """The collector; `refuses(message)` true makes a 400 of it. It can be stopped, and started again at its port."""

    def __init__(self) -> None:
        self.port = 0
        self.posted: list[Posted] = []
        self.strays: list[str] = []
        """paths of requests that are none of OTLP's"""
        self.refuses: Callable[[Any], int | None] = lambda _: None
        self._answers: deque[tuple[int, Mapping[str, str], bytes]] = deque()
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, at the port of before if there was one."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, reply = receiver.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                self.send_response(status)
                for name, value in {"Content-Type": "application/x-protobuf", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def do_GET(self) -> None:
                receiver.strays.append(self.path)
                self.send_error(405)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Listen no more: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Say what the next request gets that has no answer yet."""
        self._answers.append((status, headers or {}, body))

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Decode a request; decide what it is answered."""
        assert headers["content-type"] == "application/x-protobuf"
        data = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        message = MESSAGES[path].FromString(data)
        answer = (200, {}, REPLIES[path]().SerializeToString())
        refusal = self.refuses(message)
        if refusal is not None:
            answer = (refusal, {}, b"")
        elif self._answers:
            answer = self._answers.popleft()
        self.posted.append(Posted(path, headers, message, time.monotonic(), answer[0]))
        return answer

    def requests(self, path: str = "/v1/traces", status: int | None = 200) -> list[Posted]:
        """The requests to a path that were answered so (None: however)."""
        return [each for each in self.posted if each.path == path and status in (None, each.status)]

    @property
    def spans(self) -> list[Any]:
        """All spans that were taken, in order."""
        return [span for each in self.requests() for span in each.spans]

    def events(self) -> list[str]:
        """The ids of the events of all spans that were taken, in order."""
        return [attributes_of(span)["trueclock.event_id"] for span in self.spans]

    @property
    def metrics(self) -> dict[str, Any]:
        """The latest metrics, by name."""
        latest = self.requests("/v1/metrics")[-1]
        (group,) = latest.message.resource_metrics
        (scope,) = group.scope_metrics
        found = {metric.name: metric for metric in scope.metrics}
        assert len(found) == len(scope.metrics)
        return found


def until(condition: Callable[[], Any], what: Callable[[], object] = lambda: "") -> Any:
    """Wait until a condition holds; what it then gave."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"it never happened: {what()}"
        time.sleep(0.01)
    return found
