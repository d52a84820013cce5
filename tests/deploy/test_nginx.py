"""deploy/nginx/trueclock.conf, as nginx itself takes it: who gets in, what gets on, and that a stream is not held up."""

import asyncio
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest

from tests.harness import ROOT, GatewayProcess, recorded, run, until
from tests.installed_host import free_port
from tests.servers.openai_like import OpenAILike

TEXT = (ROOT / "deploy" / "nginx" / "trueclock.conf").read_text(encoding="utf-8")
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
TOKEN = "ab12" * 16  # as `openssl rand -hex 32` makes them
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")
CERTIFICATE = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=llm.example.org"


@dataclass(frozen=True)
class Proxy:
    """nginx as a test started it."""

    port: int
    ssl: ssl.SSLContext

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}{path}"


def placed(folder: Path, port: int, gateways: tuple[int, int]) -> Path:
    """The file with the places and ports of a test, and the second gateway; the configuration that includes it."""
    text = TEXT.replace("/etc/nginx/", f"{folder}/").replace("#server", "server")
    assert text.count("listen 443 ssl;") == 1
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")
    for old, new in zip(("4000", "4010"), gateways, strict=True):
        text, count = re.subn(rf"127\.0\.0\.1:{old}\b", f"127.0.0.1:{new}", text)
        assert count == 1
    (folder / "trueclock.conf").write_text(text)
    (folder / "trueclock.tokens").write_text(f'"Bearer {TOKEN}" shop;\n')
    files = ["-keyout", folder / "trueclock.key", "-out", folder / "trueclock.crt"]
    subprocess.run([*CERTIFICATE.split(), *files], check=True, capture_output=True)
    kept = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{kept}include {folder}/trueclock.conf;\n}}\n"
    )
    return main


@asynccontextmanager
async def proxied(folder: Path, *gateways: int) -> AsyncIterator[Proxy]:
    """nginx before two gateways."""
    first, second = gateways
    port = free_port()
    assert NGINX is not None
    configuration = placed(folder, port, (first, second))
    process = await asyncio.create_subprocess_exec(
        NGINX, "-p", str(folder), "-c", str(configuration), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
        context = ssl.create_default_context(cafile=folder / "trueclock.crt")
        context.check_hostname = False  # the certificate's name is the example's
        yield Proxy(port, context)
    finally:
        process.terminate()
        await process.wait()


def asked(words: str = "hello", **more: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": words}], **more}).encode()


BEARER = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}


def test_nginx_takes_it(tmp_path: Path) -> None:
    assert NGINX is not None
    configuration = placed(tmp_path, free_port(), (free_port(), free_port()))
    done = subprocess.run(
        [NGINX, "-t", "-p", tmp_path, "-c", configuration], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
    (tmp_path / "trueclock.tokens").write_text("no token\n")
    refused = subprocess.run([NGINX, "-t", "-p", tmp_path, "-c", configuration], capture_output=True, check=False)
    assert refused.returncode != 0


def test_its_limits_are_those_of_the_gateway() -> None:
    """Bodies as large, and time-outs above the gateway's own, so that its error is the one that arrives."""
    configured = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    body = re.search(r"body_limit_bytes: (\d+)", configured)
    first = re.search(r"first_byte_seconds: (\d+)", configured)
    assert body is not None
    assert first is not None
    assert f"client_max_body_size {int(body[1]) >> 20}m;" in TEXT
    for name in ("read", "send"):
        found = re.search(rf"proxy_{name}_timeout (\d+)s;", TEXT)
        assert found is not None
        assert int(found[1]) > int(first[1])


def test_requests_through_it(tmp_path: Path) -> None:
    """A token gets in and no further; streams come piece by piece; a large body passes; nothing but /v1 is there."""

    async def scenario() -> None:
        async with (
            OpenAILike() as upstream,
            GatewayProcess("--upstream", upstream.url, data_dir=tmp_path / "data") as gateway,
            proxied(tmp_path, gateway.port, gateway.port) as proxy,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=proxy.ssl)) as client,
        ):
            place = proxy.url("/v1/chat/completions")
            for wrong in ({}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}):
                async with client.post(place, data=asked(), headers=wrong) as reply:
                    assert reply.status == 401
            for path in ("/", "/metrics", "/trueclock/v1/summary", "/health/ready"):
                async with client.get(proxy.url(path), headers=BEARER) as reply:
                    assert reply.status == 404
            async with client.post(place, data=BytesIO(asked("hello " * 500_000)), headers=BEARER) as reply:
                assert reply.status == 200
            async with client.post(place, data=asked(stream=True), headers={**BEARER, "x-delay": "0.2"}) as reply:
                clock = asyncio.get_running_loop()
                times = [clock.time() async for _ in reply.content.iter_any()]
                assert times[-1] - times[0] > 0.5, "it was held up"
                assert reply.headers["Content-Type"].startswith("text/event-stream")
            sent = [re.findall(rb"(?i)\r\nauthorization: (.*?)\r\n", each.head) for each in upstream.requests]
            assert sent == [[b"Bearer shop"]] * 2
            assert not any(TOKEN.encode() in each.head for each in upstream.requests)

    run(scenario())
    assert len(recorded(tmp_path / "data")) == 2


def test_one_gateway_stops_while_the_other_serves(tmp_path: Path) -> None:
    """No client hears of it: what cannot connect goes to the other, and what is in flight is finished."""

    async def scenario() -> None:
        async with (
            OpenAILike() as upstream,
            GatewayProcess("--upstream", upstream.url, data_dir=tmp_path / "one") as one,
            GatewayProcess("--upstream", upstream.url, data_dir=tmp_path / "two") as two,
            proxied(tmp_path, one.port, two.port) as proxy,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=proxy.ssl)) as client,
        ):

            async def ask(**headers: str) -> int:
                place = proxy.url("/v1/chat/completions")
                async with client.post(place, data=asked(), headers={**BEARER, **headers}) as reply:
                    await reply.read()
                    return reply.status

            slow = [asyncio.create_task(ask(**{"x-first-delay": "1.5"})) for _ in range(4)]
            await upstream.received(4)
            ended = asyncio.create_task(one.end())
            statuses = [await ask() for _ in range(40)]
            assert statuses == [200] * 40
            assert await asyncio.gather(*slow) == [200] * 4
            assert (await ended)[0] == 0

    run(scenario())
    assert len(recorded(tmp_path / "one")) + len(recorded(tmp_path / "two")) == 44
