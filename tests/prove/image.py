#!/usr/bin/env python3
"""The Dockerfile's steps, carried out without Docker, and what comes out of them, run as a container would run it.

    python tests/prove/image.py                                   # the image as it is built by default
    python tests/prove/image.py --extras cluster,otlp,litellm     # with another build argument EXTRAS

Debian's buildah reads the Dockerfile and runs every step. As no image is fetched, the one that it builds on is made
here of Debian's packages and has Debian's Python, under the name that the Dockerfile asks for. The result then runs by
its own CMD as its own USER: its root read-only, its volume and /tmp alone writable, no capability, a network of its
own; then as gateway and stream worker on a Kafka broker. Takes root, buildah, mmdebstrap and Java, and the network for
packages.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from container import Builder, Image, base_name, build_arguments, command, leave_network
from kill import start_upstream
from proving import ROOT, Claims, ProofError, end_on_sigterm, workplace

sys.path.insert(0, str(ROOT))
from tests import kafka_broker

TAG = "localhost/trueclock:prove"
MODULES = {"cluster": "faust, aiokafka, kafka", "otlp": "opentelemetry.proto", "litellm": "litellm"}
ABSENT = ("torch", "numpy", "scipy", "pytest", "tests")
READ_ONLY = "Read-only file system"


def ask(port: int, path: str, body: object = None) -> tuple[int, bytes]:
    """One request to a port of this network."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    data = None if body is None else json.dumps(body)
    connection.request("GET" if data is None else "POST", path, data, {"content-type": "application/json"})
    reply = connection.getresponse()
    return reply.status, reply.read()


def chat(delay: float = 0.0) -> int:
    """The status of a chat completion through the gateway, 0 where its reply did not come whole."""
    asked = {"model": "davinci", "messages": [{"role": "user", "content": "Hello"}]}
    try:
        status, body = ask(4000, f"/v1/chat/completions?kind=json&delay={delay}", asked)
        return status if json.loads(body)["choices"] else 0
    except (OSError, http.client.HTTPException, ValueError):
        return 0


def wait(true: Callable[[], Any], seconds: float = 60) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            if true():
                return True
        time.sleep(0.05)
    return False


def check_content(image: Image, claims: Claims, extras: str) -> None:
    """What is in it, and what is not."""
    version = image.run("gateway", "--version")
    claims.claim("gateway says its version", version.returncode == 0, (version.stdout + version.stderr).strip())
    for extra in filter(None, extras.split(",")):
        done = image.run("python", "-c", f"import {MODULES[extra]}")
        claims.claim(f"the extra {extra} is in it", done.returncode == 0, done.stderr[-300:] if done.returncode else "")
    code = f"import importlib.util as u; print([name for name in {ABSENT} if u.find_spec(name)])"
    claims.claim(
        f"{', '.join(ABSENT)} are not", (found := image.run("python", "-c", code).stdout.strip()) == "[]", found
    )
    done = image.run("sh", "-c", "touch /opt/trueclock/new")
    claims.claim("its root is read-only here", READ_ONLY in done.stderr, done.stderr.strip())


def check_gateway(image: Image, claims: Claims, upstream: str) -> None:
    """Run it by its own CMD, and use it."""
    kind, *health = image.config["Healthcheck"]["Test"]
    claims.claim("its health check says no while nothing runs", kind == "CMD" and image.run(*health).returncode == 1)
    with image.running(*image.config["Cmd"], "--upstream", upstream) as process:
        ready = wait(lambda: ask(4000, "/health/ready")[0] == 200)
        if not claims.claim("its CMD serves", ready, "" if ready else image.log.read_text()[-800:]):
            return
        claims.claim("its health check says yes", image.run(*health).returncode == 0)
        status = Path(f"/proc/{process}/status").read_text()
        found = re.findall(r"^(?:Uid|CapEff|NoNewPrivs):\s+(\S+)", status, re.MULTILINE)
        user = image.config["User"].partition(":")[0]
        claims.claim("it runs as its USER, without capabilities", found == [user, "0" * 16, "1"] and user != "0", found)
        claims.claim("a request is passed on", chat() == 200)
        page, metrics = ask(4001, "/")[0], ask(4001, "/metrics")
        shown = page == metrics[0] == 200 and b"trueclock_requests_total" in metrics[1]
        claims.claim("page and /metrics are on 4001 alone", shown and ask(4000, "/metrics")[0] == 404)
        check_end(claims, process)
    events = [json.loads(line) for line in image.run("gateway", "events").stdout.splitlines()]
    found = [(event["model"], event["status"], event["coverage"]) for event in events]
    claims.claim("`gateway events` has both, enriched", found == [("davinci", 200, "covered")] * 2, found)


def check_end(claims: Claims, process: int) -> None:
    """End it with a request in flight."""
    slow: list[int] = []
    thread = threading.Thread(target=lambda: slow.append(chat(2.0)))
    thread.start()
    in_flight = wait(lambda: b"trueclock_requests_in_flight 1.0" in ask(4001, "/metrics")[1], 2)
    os.kill(process, signal.SIGTERM)
    thread.join()
    ended = wait(lambda: not Path(f"/proc/{process}").exists(), 20)
    claims.claim("SIGTERM lets a request in flight finish, and ends it", in_flight and slow == [200] and ended, slow)


def check_cluster(image: Image, claims: Claims, upstream: str, broker: str) -> None:
    """Run it as gateway and as stream worker on a broker, by the commands of deploy/compose.yaml."""
    kafka = ("--kafka", broker)
    with ExitStack() as opened:
        opened.enter_context(image.running(*image.config["Cmd"], "--upstream", upstream, "--workers", "2", *kafka))
        worker = ("stream", "worker", *kafka, "--host", "0.0.0.0", "--port", "6066", "--name", "stream-1")
        opened.enter_context(image.running(*worker))
        ready = wait(lambda: ask(4000, "/health/ready")[0] == ask(6066, "/health/ready")[0] == 200)
        claims.claim(
            "gateway and stream worker are ready on a broker", ready, "" if ready else image.log.read_text()[-800:]
        )
        claims.claim("the stream worker's health check says yes", image.run("healthcheck", "6066").returncode == 0)
        claims.claim("a request is passed on by its workers", chat() == 200)
        enriched = wait(lambda: json.loads(ask(6066, "/trueclock/v1/status")[1])["enriched"] == 3)
        claims.claim("the stream worker enriches it, and those of before", enriched)


def prove(options: argparse.Namespace) -> int:
    """Build the image and prove what it does."""
    claims = Claims("image")
    with workplace(options.keep) as work, ExitStack() as opened:
        if "cluster" in options.extras:
            with kafka_broker.Broker(work / "fetched"):
                pass  # Kafka is fetched while there is a network
        builder = Builder(work)
        builder.base(base_name())
        wrong = build(builder, options.extras)
        if not claims.claim("every step of the Dockerfile does", not wrong, wrong):
            return claims.finish("there is no image")
        image = builder.unpacked(TAG)
        leave_network()
        process, upstream = start_upstream(work)
        opened.callback(process.kill)
        check_content(image, claims, options.extras)
        check_gateway(image, claims, upstream)
        if "cluster" in options.extras:
            broker = opened.enter_context(kafka_broker.Broker(work / "kafka"))
            check_cluster(image, claims, upstream, broker.bootstrap)
        added = int(command("du", "--bytes", "--summarize", image.root / "opt" / "trueclock").split()[0]) / 1e6
        return claims.finish(f"EXTRAS={options.extras}: {added:.0f} MB beside Python, on Debian's own")


def build(builder: Builder, extras: str) -> str:
    """Build the image; return what went wrong."""
    options = ("--pull=never", "--format=docker", "--build-arg", f"EXTRAS={extras}", "--tag", TAG)
    try:
        builder("build", *options, ROOT)
    except ProofError as error:
        return str(error)
    return ""


def missing(extras: str) -> str | None:
    """What this needs and does not have."""
    if os.geteuid() != 0:
        return "this takes root: it mounts what a container has"
    tools = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "ip": "iproute2", "setpriv": "util-linux"}
    if absent := [package for tool, package in tools.items() if shutil.which(tool) is None]:
        return f"apt-get install {' '.join(absent)}"
    return kafka_broker.missing() if "cluster" in extras else None


def main() -> int:
    """Read the options; prove."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default=build_arguments()["EXTRAS"], help="build argument (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave images and logs there")
    options = parser.parse_args()
    end_on_sigterm()
    try:
        if reason := missing(options.extras):
            raise ProofError(reason)
        return prove(options)
    except ProofError as error:
        print(f"image: cannot be carried out: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
