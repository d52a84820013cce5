"""README.md holds: its commands run, its code runs, its examples say what the product says, its links lead somewhere."""

import asyncio
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from statistics import mean

import pytest
import yaml

from gateway import cli as gateway_cli
from profiler import cli as profiler_cli
from stream import cli as stream_cli
from stream.coefficients import load_tables
from stream.enrich import enrich
from stream.events import decode_event, encode_enriched
from stream.runtime import prompt_seconds
from tests.kafka_broker import Served
from tests.servers.openai_like import OpenAILike

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAINS = {"gateway": gateway_cli.main, "stream": stream_cli.main, "profiler": profiler_cli.main}
SECONDS = 20.0
KEY = "sk-readme"
ANSWER = "Time is what keeps everything"


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command of the `sh` blocks, continued lines joined."""
    return [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def beginning(*starts: str) -> list[str]:
    return [command for command in commands() if command.startswith(starts)]


def makes() -> list[str]:
    """The `make` commands, those in sentences too."""
    return sorted({*beginning("make "), *re.findall(r"`(make [a-z]+(?:\s[A-Z]+='[^']*')?)`", README)})


def scaled_out() -> list[str]:
    """The commands that need a broker: one after the other, as a reader types them."""
    kafka = ("--kafka", "kafka.consumer", "127.0.0.1:6066", "kafka-local")
    return [command for command in commands() if any(mark in command for mark in kafka)]


OTHERS = [
    command
    for command in commands()
    if not command.startswith(("make ", "gateway run", "pip ")) and command not in scaled_out()
]


# --- what the commands run against


@contextmanager
def provider() -> Iterator[str]:
    """The OpenAI-like server, on a loop in a thread of its own; its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = OpenAILike()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(SECONDS)
        yield server.url
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True)
class Place:
    """A directory to run commands in, with the product's commands on the PATH."""

    folder: Path
    environment: dict[str, str]
    upstream: str
    port: int = 0

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a command line in bash."""
        return subprocess.Popen(
            ["bash", "-eo", "pipefail", "-c", f"exec {command}" if command.startswith(tuple(MAINS)) and "|" not in command else command],
            cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, command: str) -> tuple[int, str, str]:
        """Run a command line to its end: exit status, output, errors."""
        with self.start(command) as process:
            try:
                output, errors = process.communicate(timeout=10 * SECONDS)  # a calibration on a busy machine
            finally:
                process.kill()
            return process.returncode, output, errors

    def here(self, text: str) -> str:
        """The text with this place's addresses, and the caller that it has."""
        text = text.replace("http://127.0.0.1:8000", self.upstream)
        text = text.replace("http://127.0.0.1:4000", f"http://127.0.0.1:{self.port}")
        if "01a1ff247f05" in text:
            text = text.replace("01a1ff247f05", str(self.events()[-1]["id"])[:20])
        return text.replace("c_0123456789abcdef", self.caller()) if "c_0123" in text else text

    def fresh(self, folder: Path) -> "Place":
        """The same with a data directory of its own."""
        return replace(self, environment={**self.environment, "XDG_DATA_HOME": str(folder)})

    def ask(self) -> None:
        """Send one request through the gateway."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        body = json.dumps({"model": "davinci", "messages": [{"role": "user", "content": "hello"}]})
        connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {KEY}"})
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        reply.read()
        connection.close()

    def events(self) -> list[dict[str, object]]:
        """The events recorded so far."""
        status, output, errors = self.run("gateway events")
        assert status == 0, errors
        return [json.loads(line) for line in output.splitlines()]

    def caller(self) -> str:
        return next(str(event["caller"]) for event in self.events() if event["caller"])


def served(process: subprocess.Popen[str]) -> int:
    """The port that a gateway's first line names."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://(?:127\.0\.0\.1|localhost):(\d+)", line)
    if found is None:
        process.kill()
        raise AssertionError(process.communicate()[1] or line)
    return int(found[1])


def get(port: int, path: str) -> tuple[int, str]:
    """Status and text of an own path."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.request("GET", path)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, text


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
    """Ask a process to end: exit status, errors."""
    process.send_signal(number)
    try:
        errors = process.communicate(timeout=SECONDS)[1]
    finally:
        process.kill()
    return process.returncode, errors


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Files as the README names them, a provider, and a gateway before it that has served a request."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "bin").mkdir()
    for name in MAINS:
        shim = folder / "bin" / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name}.cli "$@"\n')
        shim.chmod(0o755)
    (folder / "config.yaml").write_text(next(block for block in blocks("yaml") if block.startswith("# config.yaml")))
    (folder / "my-table.json").write_text(next(block for block in blocks("json") if '"stacks"' in block))
    (folder / "requests.csv").write_text("model,prompt_tokens,output_tokens\ndavinci,500,20\n")
    (folder / "events.jsonl").write_text('{"model": "davinci", "prompt_tokens": 500, "completion_tokens": 20}\n')
    (folder / "profiler").mkdir()
    (folder / "profiler" / "samples").symlink_to(ROOT / "profiler" / "samples")
    with provider() as upstream:
        local = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
        keys = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": "sk-ant-readme", "XDG_DATA_HOME": str(folder / "data")}
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        bare = Place(folder, {**os.environ, **local, **keys, "PATH": path}, upstream)
        with bare.start(f"gateway run --port 0 --upstream {upstream}") as process:
            ready = replace(bare, port=served(process))
            ready.ask()
            yield ready
            status, errors = end(process)
            assert status == 0, errors


# --- commands


def test_there_is_something_to_test() -> None:
    names = re.findall(r"^\| `((?:gateway|stream|profiler) \w+)(?: [A-Z]+)?` \|", README, re.MULTILINE)
    assert len(makes()) >= 5
    assert len(beginning("gateway run")) >= 4
    assert len(OTHERS) >= 15
    assert len(set(names)) == len(names)
    for name in names:
        assert beginning(name) or name == "gateway run", name


@pytest.mark.parametrize("command", makes())
def test_make(command: str) -> None:
    """The target and its recipe parse; running them is another test's, or CI's, affair."""
    with_n = command.replace("make ", "make -n --no-print-directory ", 1)  # `make test` runs this test itself
    done = subprocess.run(with_n, check=False, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    handed_on = re.search(r"[A-Z]+='(.*)'", command)
    assert handed_on is None or done.stdout.rstrip().endswith(f" {handed_on[1]}")


@pytest.mark.parametrize("command", beginning("pip "))
def test_extra(command: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extra,) = re.findall(r"'\.\[(\w+)\]'", command)
    assert extra in project["optional-dependencies"]


@pytest.mark.parametrize("command", [each for each in beginning("gateway run") if each not in scaled_out()])
def test_gateway_run(command: str, place: Place, tmp_path: Path) -> None:
    """It starts, serves, and stops when asked; on a free port and in a data directory of its own."""
    own = place.fresh(tmp_path)
    free = place.here(command).replace("--port 4000", "--port 0").replace(":4001", ":0")
    with own.start(free if "--port" in free else f"{free} --port 0") as process:
        if "--config" in command and importlib.util.find_spec("litellm") is None:
            errors = process.communicate(timeout=SECONDS)[1]
            assert process.returncode == 2
            assert re.match(r"gateway run: config.yaml:\d+: model_list\[2\] 'claude': .*litellm", errors)
            return
        assert get(served(process), "/health/ready")[0] == 200
        status, errors = end(process)
    assert status == 0, errors
    assert '"level": "error"' not in errors


@pytest.mark.parametrize("command", OTHERS)
def test_command(command: str, place: Place) -> None:
    """It does what it says, with one more request recorded before."""
    if command.startswith("curl") and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    place.ask()
    if "--follow" in command:
        check_follow(command, place)
        return
    status, output, errors = place.run(place.here(with_budget(command)))
    if command.startswith("gateway check") and importlib.util.find_spec("litellm") is None:
        assert status == 2
        assert re.match(r"gateway check: config.yaml:\d+: model_list\[2\] 'claude': .*litellm", errors)
        return
    if (
        command.startswith("profiler measure")
        and "--endpoint" not in command
        and importlib.util.find_spec("torch") is None
    ):
        assert (status, errors) == (
            2,
            "profiler measure: to run models here takes torch: pip install 'trueclock[profiler]'\n",
        )
        return
    if command.startswith("profiler measure") and status == 3:  # a busy machine
        assert re.search(r"profiler measure: the budget is spent: the same command goes on from \w+\.jsonl\n$", errors)
        return
    if command.startswith("profiler probe") and status == 1:  # what a busy machine's noise comes to
        assert re.fullmatch(r"profiler probe: warning: T is known to ± \d+% only, .*\n", errors)
        status = 0
    assert status == 0, errors
    written = re.search(r"> ([\w.]+)$", command)
    check_output(command, (place.folder / written[1]).read_text() if written else output)


def with_budget(command: str) -> str:
    """The command, where it measures as long as it takes, in the time that it has here."""
    if not command.startswith("profiler measure"):
        return command
    return re.sub(r" --budget \S+", "", command) + f" --budget {5 * SECONDS:.0f}s"


def test_scaled_out(place: Place, broker: Served, tmp_path: Path) -> None:
    """Gateway and stream workers start; a request is enriched once, counted in windows, and replayed."""
    fresh = place.fresh(tmp_path)
    own = replace(fresh, environment={**fresh.environment, "PYTHONUNBUFFERED": "1"})
    local, gateway, *streams, windows, read, replay = scaled_out()
    assert local == "deploy/kafka-local start"
    assert (len(streams), windows.split()[0], replay.split()[:2]) == (2, "curl", ["stream", "replay"])

    def here(command: str) -> str:
        return command.replace("127.0.0.1:9092", broker.bootstrap)

    with ExitStack() as running:

        def start(command: str) -> subprocess.Popen[str]:
            process = running.enter_context(own.start(command))
            running.callback(process.kill)  # first, if something fails
            return process

        started = [start(f"{here(gateway)} --port 0 --upstream {place.upstream}")]
        serving = replace(own, port=served(started[0]))
        started += [start(f"{here(stream).replace('--port 6067', '')} --port 0") for stream in streams]
        ports = [served(process) for process in started[1:]]
        serving.ask()
        (event,) = serving.events()
        assert read.startswith("python ")
        reader = start(here(read).replace("python", f"'{sys.executable}'", 1))
        assert reader.stdout is not None
        assert json.loads(reader.stdout.readline())["id"] == event["id"]
        end(reader, signal.SIGINT)
        for port in ports:
            wait_for(lambda at=port: json.loads(get(at, windows.partition(":6066")[2].rstrip("'"))[1])["windows"])
        status, output, errors = own.run(here(replay))
        assert status == 0, errors
        assert "1 event" in output + errors
        for process in started:
            status, errors = end(process)
            assert status == 0, errors


def wait_for(done: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.1)


def check_output(command: str, text: str) -> None:
    """Something fitting came out."""
    if command.startswith(("export", "profiler whatif")):
        return
    assert text.strip()
    if "--delete" in command:
        assert re.fullmatch(r"[1-9]\d* events of c_[0-9a-f]{16} deleted\n", text)
    elif command.startswith("stream simulate"):
        assert f"--requests {len(text.splitlines())} " in command
    elif command.startswith("stream denoise --json"):
        assert all(row["runtime_per_output_token"] > 0 for row in json.loads(text)["models"].values())
    elif command.startswith(("gateway events", "stream enrich")) or "| stream enrich" in command:
        events = [json.loads(line) for line in text.splitlines()]
        known = "denoised_runtime_seconds" if "--baselines" in command else "idealized_runtime_seconds"
        assert any(event[known] for event in events)
        assert all(event["coverage"] for event in events)
    elif "explain" in command:
        assert "davinci" in text
    elif command.startswith("stream whatif"):
        assert json.loads(text)["served"]["fleet"]
    elif command.startswith("stream outcomes"):
        assert "majority" in text
    elif command.startswith("gateway outcomes"):
        assert text == "1 outcome accepted\n"
    elif "chat/completions" in command:
        assert ANSWER in text


def check_follow(command: str, place: Place) -> None:
    """What there is comes at once, and what comes next too."""
    with place.start(command) as process:
        assert process.stdout is not None
        count = len(place.events())
        seen = [json.loads(process.stdout.readline())["id"] for _ in range(count)]
        place.ask()
        seen.append(json.loads(process.stdout.readline())["id"])
        end(process, signal.SIGINT)
    assert len(set(seen)) == count + 1


def totals(text: str, metric: str) -> dict[str, float]:
    """A metric's values on the leading stack, by model."""
    found = re.findall(rf'^{metric}{{model="([^"]+)",stack="a100-megatron",[^}}]*}} (\S+)$', text, re.MULTILINE)
    return {model: float(value) for model, value in found}


def test_demo(place: Place) -> None:
    """Within 15 seconds raw and idealized runtime by model are there, and move; Ctrl-C stops it."""
    began = time.monotonic()
    with place.start("gateway demo --port 0 --duration 12") as process:
        port = served(process)
        first: dict[str, float] = {}
        while True:
            assert time.monotonic() - began < 15
            assert process.poll() is None
            text = get(port, "/metrics")[1]
            raw = totals(text, "trueclock_raw_runtime_seconds_total")
            ideal = totals(text, "trueclock_idealized_runtime_seconds_total")
            first = first or raw
            if len(ideal) >= 3 and sum(raw[model] > first.get(model, 0.0) for model in ideal) >= 2:
                break
            time.sleep(0.1)
        assert "<title>trueclock</title>" in get(port, "/")[1]
        assert raw.keys() == ideal.keys()
        status, errors = end(process, signal.SIGINT)
    assert status == 0
    assert '"level": "error"' not in errors


# --- code and files


@pytest.mark.parametrize("code", blocks("python"))
def test_python(code: str, place: Place) -> None:
    for module in re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -e '.[dev]'")
    (place.folder / "example.py").write_text(place.here(code))
    status, output, errors = place.run(f"'{sys.executable}' example.py")
    assert status == 0, errors
    assert ANSWER in output
    event = place.events()[-1]
    assert (event["model"], event["completion_tokens"], event["error_class"]) == ("gpt-4o-mini", 5, None)
    if "x-trueclock-tags" in code:
        assert event["tags"] == ["checkout", "experiment=7"]
        assert event["stream"] is True


def test_yaml() -> None:
    for block in blocks("yaml"):
        assert yaml.safe_load(block)


def test_event_example() -> None:
    """Enriched again, the example says what it says."""
    (block,) = [block for block in blocks("json") if '"slowdown"' in block]
    shown = json.loads(block)
    given = {**shown, "longest_choice_tokens": shown["completion_tokens"]}
    again = json.loads(encode_enriched(enrich(decode_event(json.dumps(given)), load_tables())))
    raw, denoised, idealized = (shown[f"{kind}_runtime_seconds"] for kind in ("raw", "denoised", "idealized"))
    learned = {
        "denoised_runtime_seconds": denoised,
        "stack_factor": denoised / idealized,
        "contention_factor": raw / denoised,
    }
    assert {**{name: again[name] for name in shown}, **learned} == shown
    assert shown["slowdown"] == raw / idealized
    for value in (raw, denoised, idealized):
        assert f"{value:.2f} s" in README
    assert f"slowdown of {shown['slowdown']:.1f}" in README
    assert (
        f"stack's factor is {shown['stack_factor']:.1f}, and {shown['contention_factor']:.1f} is contention" in README
    )
    parts = f"{idealized:.1f} s is the model, {denoised - idealized:.1f} s the stack, {raw - denoised:.1f} s contention"
    assert f"{raw:.1f} s: {parts}; the provider's own best for this size is {denoised:.1f} s" in README


def test_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Every option of the table of commands is in that command's help."""
    rows = re.findall(r"^\| `((?:gateway|stream|profiler) \w+)(?: [A-Z]+)?` \| (.*) \|$", README, re.MULTILINE)
    assert len(rows) == 28
    for command, text in rows:
        program, name = command.split()
        with pytest.raises(SystemExit):
            MAINS[program]([name, "--help"])
        usage = capsys.readouterr().out
        for option in re.findall(r"`(--[a-z-]+)", text):
            assert option in usage, (command, option)


def titles(text: str) -> set[str]:
    """What links to a document's sections name them."""
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in found}


def test_one_terminal_for_what_runs_until_stopped() -> None:
    """A program that runs until Ctrl-C is the last command of its block: whatever came after would wait for it."""
    lasting = re.compile(r"(gateway run|stream worker|make (run|demo|cluster)\b|.* --follow|python -m kafka.consumer)")
    for block in blocks("sh"):
        *before, _ = [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]
        assert not [line for line in before if lasting.match(line)], block


def test_links() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", README)
    files = [target for target in targets if not target.startswith(("https://", "#"))]
    assert len(files) >= 8
    for target in files:
        file, _, title = target.partition("#")
        assert (ROOT / file).is_file(), target
        assert not title or title in titles((ROOT / file).read_text(encoding="utf-8")), target
    assert {target[1:] for target in targets if target.startswith("#")} <= titles(README)
    for path in re.findall(r"`((?:stream|tests|docs|deploy|gateway|profiler)/[\w/.-]*)", README):
        assert (ROOT / path).exists() or list(ROOT.glob(path + "*")), path


def test_picture() -> None:
    """A PNG, 1200 wide, small enough for a front page."""
    data = (ROOT / "docs" / "page.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(data[16:20], "big") == 1200
    assert len(data) < 300_000


def test_queries() -> None:
    """Queries name metrics and labels that docs/metrics.md lists."""
    document = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| (.*?) ?\|", document, re.MULTILINE)
    labels = {name: set(re.findall(r"`(\w+)`", text)) for name, text in rows} | {"up": {"job"}}
    queries = blocks("promql")
    assert len(queries) >= 5
    for query in queries:
        names = {
            re.sub(r"_(bucket|sum|count)$", "", name)
            for name in re.findall(r"\b((?:trueclock|gen_ai)_\w+|up)(?:[{\[ ]|\) <)", query)
        }
        assert names
        assert names <= labels.keys(), names - labels.keys()
        used = set(re.findall(r"(\w+)=", query)) | {
            label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")
        }
        for label in used - {"le"}:
            assert any(label in labels[name] for name in names), (label, query)
    for name in re.findall(r"`(trueclock_\w+|gen_ai_\w+)`", README):
        assert name in labels, name


# --- what it says of the tables


def test_tables() -> None:
    tables = load_tables()
    for name, rows in re.findall(
        r"^\| `(a100-megatron|v100-megatron|h100-predicted|api-2022)`.* \| (\d+) \|$", README, re.MULTILINE
    ):
        assert len(tables.stacks[name].rows) == int(rows)
    proxies = {
        row.name: row.proxy_of for stack in tables.stacks.values() for row in stack.rows.values() if row.proxy_of
    }
    said = re.search(r"\*\*proxies\*\*(.*?)they carry", README, re.DOTALL)
    assert said is not None
    assert set(re.findall(r"`([^`]+)`", said[1])) == {*proxies, *proxies.values()}


@pytest.mark.parametrize(("interpolation", "tokens", "seconds"), [("helm", 16, "0.087"), ("helm", 17, "0.047")])
def test_helm_falls(interpolation: str, tokens: int, seconds: str) -> None:
    row = load_tables().row("a100-megatron", "davinci")
    assert row is not None
    assert f"{prompt_seconds(row.coefficients, tokens, 'helm'):.3f}" == seconds
    assert f"{seconds} s at {tokens}" in README


@pytest.mark.parametrize("interpolation", ["linear", "helm"])
def test_interpolation_error(interpolation: str) -> None:
    """Each profiled prompt size but the ends left out, and taken from the others."""
    errors = []
    for row in load_tables().stacks["a100-megatron"].rows.values():
        whole = row.coefficients
        for place in range(1, len(whole.knots) - 1):
            knots, seconds = [*whole.knots], [*whole.prompt_seconds]
            tokens, measured = knots.pop(place), seconds.pop(place)
            rest = replace(whole, knots=tuple(knots), prompt_seconds=tuple(seconds))
            errors.append(abs(prompt_seconds(rest, tokens, interpolation) / measured - 1))
    assert f"{100 * mean(errors):.1f}% with `{interpolation}`" in " ".join(README.split())


def test_no_private_paths() -> None:
    for name in ("README.md", "CHANGELOG.md", "docs/architecture.md"):
        assert not re.search(r"/(?:work|tmp|root|home)/", (ROOT / name).read_text(encoding="utf-8")), name
