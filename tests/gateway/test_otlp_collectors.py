"""Who is no collector, or a poor one: what it answers is taken for no success, and it holds up nothing for long."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from prometheus_client import CollectorRegistry

from gateway import otlp
from gateway.otlp_post import NOT_OTLP, Post, Unavailable
from gateway.otlp_settings import OtlpSettings
from tests.gateway.otlp_receiver import Receiver, until
from tests.gateway.test_otlp_export import collector, dealt_with, exporting, quickly, written

__all__ = ["collector", "quickly"]  # fixtures

PROTOBUF = {"Content-Type": "application/x-protobuf"}
TEXT = {"Content-Type": "text/plain"}


def partial_success() -> bytes:
    message = ExportTraceServiceResponse()
    message.partial_success.error_message = "no room at all"
    return bytes(message.SerializeToString())


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "text/html"}, b"<html><body>It works!</body></html>"),
        ({"Content-Type": "application/json"}, b'{"error":"no such route"}'),
        ({"Content-Type": "application/json"}, b'{"partialSuccess":'),
        ({"Content-Type": "application/json"}, b'{"a":' * 10_000),
        (PROTOBUF, b"\x0a\x04"),
        (PROTOBUF, partial_success()[:-1]),
        (PROTOBUF, b"<html><body>It works!</body></html>"),
        (TEXT, partial_success()),
    ],
)  # fmt: skip
def test_what_is_no_reply_of_a_collector_is_no_success(
    tmp_path: Path, collector: Receiver, headers: dict[str, str], body: bytes
) -> None:
    collector.answer(200, headers, body)
    written(tmp_path, *range(3))
    with exporting(tmp_path, collector) as exporter:
        assert until(lambda: exporter.failing) == f"{collector.url}/v1/traces: {NOT_OTLP}"
        dealt_with(exporter, 3, 0, 0)
        until(lambda: exporter.failing is None)
    assert [len(each.spans) for each in collector.posted] == [3, 3]


@pytest.mark.parametrize(
    ("body", "dropped"), [(b"{}", 0), (b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"no room"}}', 2)]
)
def test_a_collector_may_answer_in_json(tmp_path: Path, collector: Receiver, body: bytes, dropped: int) -> None:
    collector.answer(200, {"Content-Type": "application/json; charset=utf-8"}, body)
    written(tmp_path, *range(3))
    with exporting(tmp_path, collector) as exporter:
        dealt_with(exporter, 3 - dropped, dropped, 0)


@pytest.mark.parametrize("status", [200, 202])
def test_an_empty_answer_is_one_whatever_its_type(tmp_path: Path, collector: Receiver, status: int) -> None:
    collector.answer(status, TEXT)
    written(tmp_path, *range(3))
    with exporting(tmp_path, collector) as exporter:
        dealt_with(exporter, 3, 0, 0)


# --- on a socket of its own


@contextmanager
def answering(answer: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that treats each connection so, once something came; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    wrap = (lambda plain: plain) if tls is None else partial(tls.wrap_socket, server_side=True)

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with suppress(OSError), closing(wrap(plain)) as connection:
                    connection.recv(65536)
                    answer(connection)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):  # else what is unread makes a reset of the end
                        pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://localhost:{listener.getsockname()[1]}/v1/traces"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n" % length


@pytest.mark.parametrize("answer", [head(999_999_999_999), head(60_000) + b"\0" * 100, head(3) + b"\x0a"])
def test_an_answer_that_is_cut_off_is_no_success(answer: bytes) -> None:
    with answering(lambda connection: connection.sendall(answer)) as url, pytest.raises(Unavailable, match=NOT_OTLP):
        Post(url, {}).send(b"", 5.0)


def test_what_is_not_even_http_does_nothing_to_a_terminal() -> None:
    with answering(lambda connection: connection.sendall(b"\x1b[31mSSH-2.0-OpenSSH\r\n\r\n")) as url:
        with pytest.raises(Unavailable) as raised:
            Post(url, {}).send(b"", 5.0)
        assert str(raised.value) == f"{url}: ?[31mSSH-2.0-OpenSSH"


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n")
        while True:
            connection.sendall(b"\0" * 65536)

    with answering(answer) as url, pytest.raises(Unavailable, match=NOT_OTLP):
        Post(url, {}).send(b"", 60.0)


def trickle(first: bytes, again: bytes, connection: socket.socket) -> None:
    """Answer, and go on with a little at a time for four seconds."""
    connection.sendall(first)
    for _ in range(80):
        connection.sendall(again)
        time.sleep(0.05)


@contextmanager
def in_time() -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="timed out"):
        yield
    assert 0.4 < time.monotonic() - began < 2.5


@pytest.mark.parametrize(
    ("first", "again"), [(head(60_000), b"\0"), (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"), (b"", b"H")]
)
def test_a_collector_that_trickles_is_left_in_time(first: bytes, again: bytes) -> None:
    with answering(partial(trickle, first, again)) as url, in_time():
        Post(url, {}).send(b"", 0.5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*made.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    with path.open("a") as file:
        file.write(Path(f"{path}.crt").read_text())
    return path


def test_tls_is_checked_and_a_collector_behind_it_is_left_in_time(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with answering(lambda connection: connection.sendall(head(0)), tls) as url:
        with pytest.raises(Unavailable, match="certificate verify failed"):
            Post(url, {}).send(b"", 5.0)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert Post(url, {}).send(b"", 5.0) == b""
    with answering(partial(trickle, head(60_000), b"\0"), tls) as url, in_time():
        Post(url, {}).send(b"", 0.5)


# --- metrics that cannot be collected


def test_metrics_that_are_not_collected_in_time_are_told_of_and_left(
    tmp_path: Path, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "_COLLECT_SECONDS", 0.1)
    left: list[bool] = []

    async def collected() -> list[Any]:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            left.append(True)
            raise
        return []

    async def catch_up() -> bool:
        return False

    settings: Any = SimpleNamespace(
        config=SimpleNamespace(otlp=replace(OtlpSettings(collector.url), spans=False)), data_dir=tmp_path
    )
    registry = CollectorRegistry()
    control: Any = SimpleNamespace(collected=collected, registry=registry, stopped=False, catch_up=catch_up)

    async def scenario() -> None:
        async with AsyncExitStack() as opened:
            otlp.open_metrics(opened, settings, control, None)
            (shown,) = list(registry._collector_to_names)
            exporter: Any = vars(shown)["_metrics"]
            for _ in range(1000):
                if exporter.failing:
                    break
                await asyncio.sleep(0.01)
            assert exporter.failing == "they were not collected within 0.1 s"
            await asyncio.sleep(0.05)
            assert left

    asyncio.run(scenario())
