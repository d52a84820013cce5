"""The phases of one round: which load, for how long, and what is read from it."""

import json
import re
import shutil
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_peers import KEY, MODEL
from bench_processes import BUILD, BenchError, Process

Sample = dict[str, float]
PATH = "/v1/chat/completions"
BODY_BYTES = 1024
PACED = "delay_us=10000&ttft_us=0&chunks=64"  # a chunk each 10 ms: chunks do not coalesce
FULL_SPEED = "delay_us=0&ttft_us=0&chunks=64"


@dataclass(frozen=True, slots=True)
class Phase:
    """One load: how the mock paces its replies, how many clients, and whether streams ask for usage."""

    name: str
    clients: int
    stream: bool = False
    usage: bool = True
    pacing: str = FULL_SPEED


PHASES = (
    Phase("json_c64", 64),
    Phase("json_c1", 1),
    Phase("paced_c64_usage", 64, stream=True, pacing=PACED),
    Phase("paced_c64", 64, stream=True, usage=False, pacing=PACED),
)


def control(mock_port: int, query: str) -> dict[str, Any]:
    """Set the mock's pacing; return its counters."""
    with urllib.request.urlopen(f"http://127.0.0.1:{mock_port}/__ctl?{query}", timeout=5) as reply:
        counters: dict[str, Any] = json.load(reply)
        return counters


def run_phase(phase: Phase, process: Process, mock_port: int, seconds: float, work: Path) -> Sample:
    """Load one gateway for some seconds; return rates, latencies and the gateway's CPU."""
    control(mock_port, phase.pacing)
    use_wrk = phase.clients > 1 and not phase.stream and shutil.which("wrk")
    cpu, began = process.cpu_seconds(), time.monotonic()
    sample = run_wrk(phase, process.port, seconds, work) if use_wrk else run_load(phase, process.port, seconds)
    used, elapsed = process.cpu_seconds() - cpu, time.monotonic() - began
    sample["cpu_percent"] = 100 * used / elapsed
    sample["cpu_us_per_request"] = used * 1e6 / sample["requests"]
    if phase.stream:
        sample["cpu_us_per_chunk"] = used * 1e6 / sample["chunks"]
    return sample


def run_load(phase: Phase, port: int, seconds: float, requests: int = 0) -> Sample:
    """Run the Go load generator: `clients` connections, closed loop, for some seconds or so many requests."""
    command = [str(BUILD / "load"), "-addr", f"127.0.0.1:{port}", "-path", PATH, "-model", MODEL, "-key", KEY]
    command += ["-mode", "stream" if phase.stream else "json", "-c", str(phase.clients), "-n", str(requests)]
    command += ["-d", f"{seconds}s", "-size", str(BODY_BYTES), f"-usage={str(phase.usage).lower()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise BenchError(f"{phase.name}: no request succeeded: {done.stdout.strip()} {done.stderr.strip()}")
    raw = json.loads(done.stdout)
    sample = {
        "requests": raw["ok"],
        "per_second": raw["rps"],
        "p50_us": raw["lat_us_p50"],
        "p99_us": raw["lat_us_p99"],
    }
    sample["failed"] = raw["errors"] + raw["reqs"] - raw["ok"]
    if phase.stream:
        sample |= {"chunks": raw["chunks"], "lag_p50_us": raw["lag_us_p50"], "lag_p99_us": raw["lag_us_p99"]}
        without = raw["no_usage"]
        sample["usage_wrong"] = without if phase.usage else raw["ok"] - without
    return sample


def run_wrk(phase: Phase, port: int, seconds: float, work: Path) -> Sample:
    """Run wrk, which costs the load's core less than the Go client does at many connections."""
    script = work / "wrk.lua"
    script.write_text(lua())
    url = f"http://127.0.0.1:{port}{PATH}"
    command = [
        "wrk",
        "-t1",
        f"-c{phase.clients}",
        f"-d{max(1, round(seconds))}s",
        "--latency",
        "-s",
        str(script),
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise BenchError(f"wrk failed: {done.stdout.strip()} {done.stderr.strip()}")
    return parse_wrk(done.stdout)


def lua() -> str:
    """Return the request of the JSON phases as a wrk script."""
    head = f'{{"model":"{MODEL}","max_tokens":256,"temperature":0.5,"messages":[{{"role":"user","content":"'
    content = "Tell me a story about a gateway. " * 40
    body = head + content[: BODY_BYTES - len(head) - 4] + '"}]}'
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    lines = ['wrk.method="POST"', *(f'wrk.headers["{name}"]="{value}"' for name, value in headers.items())]
    return "\n".join([*lines, f"wrk.body=[==[{body}]==]", ""])


def parse_wrk(text: str) -> Sample:
    """Read wrk's report; times in microseconds."""
    if not (rate := re.search(r"Requests/sec:\s+([\d.]+)", text)):
        raise BenchError(f"wrk's report has no rate: {text.strip()}")
    requests = int(found[1]) if (found := re.search(r"(\d+) requests in", text)) else 0
    if not requests:
        raise BenchError(f"wrk made no request: {text.strip()}")
    failed = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    failed += sum(sum(map(int, re.findall(r"\d+", line))) for line in re.findall(r"Socket errors: (.*)", text))
    sample: Sample = {"requests": requests, "per_second": float(rate[1]), "failed": failed}
    for quantile in ("50", "99"):
        if time_found := re.search(rf"\s{quantile}%\s+([\d.]+)(us|ms|s)\b", text):
            sample[f"p{quantile}_us"] = float(time_found[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[time_found[2]]
    return sample
