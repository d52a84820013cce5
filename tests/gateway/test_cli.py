"""The command lines: help with examples, one clear line for each wrong use, and a gateway on a full disk."""

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ROOT, GatewayProcess, ask, chat, command, events_of, run, within
from tests.servers.openai_like import OpenAILike

COMMANDS = [
    ("gateway.cli", "run"), ("gateway.cli", "demo"), ("gateway.cli", "events"), ("gateway.cli", "check"),
    ("gateway.cli", "explain"), ("gateway.cli", "outcomes"), ("gateway.cli", "prices"),
    ("stream.cli", "enrich"), ("profiler.cli", "estimate"),
]  # fmt: skip


def called(module: str, *options: str, **environment: str) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", module, *options],
        cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error", **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("module", "name"), COMMANDS)
def test_every_commands_help_has_an_example_of_it(module: str, name: str) -> None:
    status, out, errors = called(module, name, "--help")
    assert (status, errors) == (0, "")
    program = module.partition(".")[0]
    _, _, examples = out.partition("example")
    assert f"{program} {name}" in examples


@pytest.mark.parametrize("module", ["gateway.cli", "stream.cli", "profiler.cli"])
def test_every_programs_help_names_its_commands(module: str) -> None:
    status, out, _ = called(module, "--help")
    assert status == 0
    assert all(name in out for program, name in COMMANDS if program == module)


@pytest.mark.parametrize("module", ["gateway.cli", "stream.cli", "profiler.cli"])
def test_every_program_tells_its_version(module: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert called(module, "--version") == (0, f"trueclock {version}\n", "")


WRONG = {
    "no command": ((), "COMMAND"),
    "unknown command": (("serve",), "serve"),
    "unknown option": (("run", "--prot", "1"), "--prot"),
    "shortened option": (("run", "--upstr", "http://x"), "--upstr"),
    "port too large": (("run", "--port", "70000"), "no port"),
    "port no number": (("run", "--port", "http"), "no port"),
    "no workers": (("run", "--workers", "0"), "'0' is no number of workers (1 to 256)"),
    "workers no number": (("run", "--workers", "all"), "'all' is no number of workers"),
    "upstream and config": (("run", "--upstream", "http://x", "--config", "y"), "not allowed with"),
    "upstream no URL": (("run", "--upstream", "localhost:8000"), "http://"),
    "upstream with a query": (("run", "--upstream", "http://x/v1?a=b"), "query"),
    "upstream with a password": (("run", "--upstream", "http://user:pass@x/"), "api_key"),
    "upstream an endpoint": (("run", "--upstream", "http://x/v1/chat/completions"), "/chat/completions"),
    "config not there": (("run", "--config", "nowhere.yaml"), "nowhere.yaml"),
    "admin no address": (("run", "--admin", "4001"), "HOST:PORT"),
    "host empty": (("run", "--host", ""), "'' is no host"),
    "allowed host with scheme": (("run", "--allowed-host", "http://x"), "'http://x' is no host"),
    "allowed host with port": (("run", "--allowed-host", "x:80"), "'x:80' is no host"),
    "no port left for admin": (("run", "--host", "0.0.0.0", "--port", "65535"), "--admin"),
    "host not here": (
        ("run", "--host", "203.0.113.7", "--port", "0", "--data-dir", "{tmp}"),
        "cannot listen on 203.0.113.7",
    ),
    "host no name": (
        ("run", "--host", "no such host", "--port", "0", "--data-dir", "{tmp}"),
        "cannot listen on no such host",
    ),
    "speed 0": (("demo", "--speed", "0"), "above 0"),
    "duration inf": (("demo", "--duration", "inf"), "above 0"),
    "since no time": (("events", "--since", "yesterday", "--data-dir", "{log}"), "15m"),
    "since no zone": (("events", "--since", "2026-01-01T00:00:00", "--data-dir", "{log}"), "15m"),
    "no events": (("events", "--data-dir", "{tmp}/nowhere"), "--data-dir"),
    "delete whose": (("events", "--delete", "--data-dir", "{log}"), "--caller"),
    "delete since": (("events", "--delete", "--caller", "x", "--since", "1d", "--data-dir", "{log}"), "--caller"),
    "explain the latest": (("explain", "--data-dir", "{tmp}/nowhere"), "--data-dir"),
    "explain nothing": (("explain", "0" * 32, "--data-dir", "{log}"), "no event"),
    "explain where": (("explain", "0", "--data-dir", "{tmp}/nowhere"), "--data-dir"),
    "explain on no stack": (("explain", "0", "--stack", "tpu", "--data-dir", "{log}"), "unknown stack 'tpu'"),
    "an option's name": (
        ("run", "--regio", "se"),
        "gateway run: unrecognized arguments: --regio se (see gateway run --help)",
    ),
    "assume nothing": (("run", "--assume", "gpt-4o"), "expected NAME=ROW"),
    "assume no row": (("run", "--assume", "gpt-4o=gpt-4o"), "no table has a row or alias 'gpt-4o'"),
    "stack unknown": (("run", "--stack", "tpu"), "unknown stack 'tpu': there are a100-megatron, v100-megatron"),
    "stack denoised": (("run", "--stack", "api-2022"), "'api-2022' is denoised, which is never a reference"),
    "check nothing": (("check",), "FILE"),
    "check no file": (("check", "nowhere.yaml"), "nowhere.yaml"),
    "check a directory": (("check", "{tmp}"), "{tmp}"),
    "check no YAML": (("check", "{bad}"), "bad.yaml:3: not valid YAML"),
    "run no YAML": (("run", "--config", "{bad}"), "bad.yaml:3: not valid YAML"),
    "check unknown key": (("check", "{key}"), "key.yaml:1"),
    "data dir a file": (("run", "--port", "0", "--data-dir", "{bad}"), "bad.yaml"),
    "data dir below a file": (("run", "--port", "0", "--data-dir", "{bad}/x"), "bad.yaml/x"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "bad.yaml").write_text("model_list:\n  - [\n")
    (folder / "key.yaml").write_text("modellist: []\n")
    log = folder / "log"

    async def record() -> None:
        async with OpenAILike() as upstream, GatewayProcess("--upstream", upstream.url, data_dir=log) as gateway:
            await chat(gateway.url)
            assert (await gateway.end())[0] == 0

    run(record())
    return {"tmp": str(folder), "bad": str(folder / "bad.yaml"), "key": str(folder / "key.yaml"), "log": str(log)}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_use_is_one_clear_line(case: str, places: dict[str, str]) -> None:
    options, said = WRONG[case]
    status, out, errors = called("gateway.cli", *(option.format(**places) for option in options))
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith("gateway")
    assert said.format(**places) in line


# --- check


def test_check_prints_what_is_served(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "model_list:\n"
        "  - model_name: fast\n"
        "    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/SOME_KEY}\n"
        "  - model_name: local/*\n"
        "    litellm_params: {model: openai/*, api_base: http://127.0.0.1:8000/v1, api_key: none}\n"
        "litellm_settings: {drop_params: true}\n"
        "trueclock: {upstream: http://127.0.0.1:9000/v1, stack: v100-megatron}\n"
    )
    status, out, errors = called("gateway.cli", "check", str(file), SOME_KEY="sk-secret")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[:2]] == ["fast", "local/*"]
    assert out.splitlines()[0].endswith("uncovered: give it a row, an alias or `assume`; billed as gpt-4o-mini")
    assert all(said in out for said in ("http://127.0.0.1:8000", "http://127.0.0.1:9000", "v100-megatron"))
    assert "electricity of world (the world): 473 g CO2e a kWh" in out.splitlines()
    assert out.splitlines()[-1].startswith("prices of providers: ")
    assert out.endswith(", unless the data directory has others\n")
    assert "config.yaml:6" in errors
    assert "sk-secret" not in out + errors


@pytest.mark.parametrize("name", ["check", "run"])
def test_a_stack_that_does_not_exist_is_one_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("trueclock: {stack: tpu-v9}\n")
    options = (
        ("check", str(file))
        if name == "check"
        else ("run", "--config", str(file), "--port", "0", "--data-dir", str(tmp_path))
    )
    status, out, errors = called("gateway.cli", *options)
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert "tpu-v9" in line
    assert "a100-megatron" in line


def test_an_entry_that_needs_litellm_says_so_where_it_is_missing(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['litellm'] = None\n")
    file = tmp_path / "config.yaml"
    file.write_text(
        "model_list:\n  - model_name: claude\n    litellm_params: {model: anthropic/claude-x, api_key: k}\n"
    )
    options = ("run", "--config", str(file), "--port", "0", "--data-dir", str(tmp_path / "data"))
    status, out, errors = called("gateway.cli", *options, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert all(said in line for said in ("config.yaml:", "'claude'", "litellm"))


@pytest.mark.parametrize("name", ["check", "run"])
@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("kafka: {bootstrap.servers: 'h:9092'}", "forwarding to Kafka needs kafka-python and lz4"),
        ("otlp: {metrics: true}", "otlp: name an endpoint such as http://127.0.0.1:4318, or set OTEL_EXPORTER"),
    ],
)
def test_what_a_start_would_lack_is_said_by_the_check_too(tmp_path: Path, name: str, own: str, said: str) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['lz4'] = None\n")
    file = tmp_path / "config.yaml"
    file.write_text(f"trueclock:\n  upstream: http://h/v1\n  {own}\n")
    options = ("check", str(file)) if name == "check" else ("run", "--config", str(file), "--data-dir", str(tmp_path))
    status, out, errors = called("gateway.cli", *options, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (status, out) == (2, "")
    (line,) = errors.splitlines()
    assert said in line


# --- stack and assume


def test_the_stack_that_leads_is_ones_choice_and_is_said_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("trueclock: {upstream: 'http://127.0.0.1:9/v1', stack: v100-megatron}\n")

    async def said(*options: str) -> tuple[str, str]:
        async with GatewayProcess("--config", str(file), *options, data_dir=tmp_path / "data") as gateway:
            stack = (await summary_of(gateway))["stack"]
            assert gateway.process.stdout is not None
            lines = [(await within(gateway.process.stdout.readline())).decode() for _ in range(2)]
            assert (await gateway.end())[0] == 0
        return str(stack), lines[1].partition(", ")[2]

    async def scenario() -> None:
        assert await said() == (
            "v100-megatron",
            "idealized runtimes are those of v100-megatron; --stack NAME lets a100-megatron or h100-predicted lead\n",
        )
        assert await said("--stack", "h100-predicted") == (
            "h100-predicted",
            "idealized runtimes are those of h100-predicted; --stack NAME lets a100-megatron or v100-megatron lead\n",
        )

    run(scenario())


def test_a_needless_assumption_is_told_at_the_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        options = ("--assume", "gpt-4o=davinci", "--assume", "j1-large=davinci")
        async with GatewayProcess(*options, data_dir=tmp_path) as gateway:
            status, errors = await gateway.end()
        warnings = [line["message"] for line in map(json.loads, errors.splitlines()) if line["level"] == "warning"]
        own = "this model has its own row, ai21/j1-large (measured): that is used where a stack has it"
        assert (status, warnings) == (0, [f"--assume j1-large: {own}"])

    run(scenario())


def test_what_is_assumed_is_seen_in_a_running_gateways_events(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream:
            options = ("--upstream", upstream.url, "--assume", "gpt-4o=davinci", "--assume", "o1=openai/curie")
            async with GatewayProcess(*options, data_dir=tmp_path) as gateway:
                await chat(gateway.url)
                assert (await gateway.end())[0] == 0

    run(scenario())
    (event,) = [
        json.loads(line) for line in called("gateway.cli", "events", "--data-dir", str(tmp_path))[1].splitlines()
    ]
    assert (event["model"], event["table_row"], event["provenance"]) == ("gpt-4o", "openai/davinci", "assumed")
    status, out, errors = called("gateway.cli", "explain", event["id"], "--data-dir", str(tmp_path))
    assert (status, errors) == (0, "")
    assert "By `assume`, 'gpt-4o' is taken to cost what openai/davinci does (measured): " in out


# --- events


def test_events_are_printed_as_json_lines_and_to_a_closed_pipe_too(places: dict[str, str]) -> None:
    status, out, errors = called("gateway.cli", "events", "--data-dir", places["log"])
    assert (status, errors) == (0, "")
    (event,) = [json.loads(line) for line in out.splitlines()]
    assert (event["model"], event["completion_tokens"]) == ("gpt-4o", 5)
    assert event["coverage"] == "uncovered"
    assert called("gateway.cli", "events", "--data-dir", places["log"], "--since", "1h")[1] == out
    assert called("gateway.cli", "events", "--data-dir", places["log"], "--since", "2999-01-01T00:00:00Z")[1] == ""
    piped = f"set -o pipefail; {sys.executable} -m gateway.cli events --data-dir {places['log']} | true; [ $? -lt 142 ]"
    done = subprocess.run(["bash", "-c", piped], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_events_follow_a_running_gateway(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, GatewayProcess("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            await chat(gateway.url, "first")
            following = await command("gateway.cli", "events", "--follow", "--data-dir", str(tmp_path))
            assert following.stdout is not None
            assert json.loads(await within(following.stdout.readline()))["model"] == "first"
            await chat(gateway.url, "second")
            assert json.loads(await within(following.stdout.readline()))["model"] == "second"
            following.send_signal(2)
            _, errors = await within(following.communicate())
            assert (following.returncode, errors) == (130, b"")

    run(scenario())


def test_a_callers_events_are_deleted_while_the_gateway_runs(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, GatewayProcess("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            for key in ("one", "two", "one"):
                await chat(gateway.url, headers=(("Authorization", f"Bearer {key}"),))
            callers = [event.caller or "" for event in await events_of(tmp_path, 3)]
            deleting = await command(
                "gateway.cli", "events", "--delete", "--caller", callers[0], "--data-dir", str(tmp_path)
            )
            out, errors = await within(deleting.communicate())
            assert (deleting.returncode, out, errors) == (0, f"2 events of {callers[0]} deleted\n".encode(), b"")
            await chat(gateway.url)
            assert [event.caller for event in await events_of(tmp_path, 2)] == [callers[1], None]

    run(scenario())


# --- disks


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 kB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)], capture_output=True, check=False
    ).returncode
    if mounted != 0:
        pytest.skip("only root may mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_replies_go_on_when_the_disk_is_full_and_the_loss_is_shown(tiny_disk: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, GatewayProcess("--upstream", upstream.url, data_dir=tiny_disk) as gateway:
            assert (await chat(gateway.url, stream=True)).status == 200
            filler = (tiny_disk / "filler").open("wb", buffering=0)
            try:
                while True:
                    filler.write(b"x" * 4096)
            except OSError:
                filler.close()
            direct = await chat(upstream.url, stream=True)
            asked = 0
            while not (summary := await summary_of(gateway))["log"]["dropped"]["disk"]:
                replies = await asyncio.gather(*(chat(gateway.url, stream=True) for _ in range(10)))
                assert all(reply.body == direct.body for reply in replies)
                asked += 10
                assert asked < 2000
            assert "full" in summary["log"]["failing"]
            metrics = (await ask(gateway.url, target="/metrics")).body.decode()
            assert "trueclock_event_log_failing 1.0" in metrics
            lost = next(
                line
                for line in metrics.splitlines()
                if line.startswith('trueclock_events_dropped_total{reason="disk"}')
            )
            assert float(lost.split()[-1]) >= 1
            (tiny_disk / "filler").unlink()
            assert (await chat(gateway.url, "after")).status == 200
            summary = await summary_of(gateway)
            assert summary["log"]["failing"] is None
            status, errors = await gateway.end()
            assert status == 0
            assert "events are being lost" in errors
            assert "Traceback" not in errors

    run(scenario())


async def summary_of(gateway: GatewayProcess) -> dict[str, dict[str, dict[str, float]]]:
    return (await ask(gateway.url, target="/trueclock/v1/summary")).json  # type: ignore[no-any-return]
