"""A tiny Llama behind `transformers serve`, `gateway run` in front of it, and `openai` clients for both."""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.prove.proving import ENV, ROOT, ProofError, events_of

START_SECONDS = 120.0
WAIT_SECONDS = 20.0
KNOTS = (1, 64, 256)
PER_OUTPUT_TOKEN, PER_PROMPT_TOKEN, FIRST = 0.001, 2e-6, 0.002  # s: idealized as no measurement made it
Event = dict[str, Any]


def idealized(prompt: int, output: int) -> float:
    """T(p, o) of the table below, which is a straight line in p up to its last knot."""
    return FIRST + PER_PROMPT_TOKEN * prompt + PER_OUTPUT_TOKEN * max(output - 1, 0)


class Server:
    """A command that says where it listens; its output goes to a file, which is shown when it does not start."""

    def __init__(self, command: Sequence[str], log: Path, **environment: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=ROOT, env=ENV | environment
            )
        self.command = " ".join(command)
        self.url = ""

    def wait(self) -> None:
        """Wait until it listens."""
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"http://127\.0\.0\.1:\d+(?=\D)", self.output())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ProofError(f"{self.command} does not start:\n{self.output()}")
            time.sleep(0.05)
        self.url = found[0]

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def started(*arguments: Any, **more: Any) -> Iterator[Server]:
    server = Server(*arguments, **more)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@dataclass
class Setup:
    """The gateway in front of the model server, and an SDK client for either."""

    gateway: Server
    data: Path
    model: str
    direct: Any
    through: Any

    def events(self, tag: str, count: int = 1) -> list[Event]:
        """The events of the requests with this tag, enriched, as `gateway events` prints them."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            found = [event for event in events_of(self.data) if tag in event["tags"]]
            if len(found) >= count or time.monotonic() > deadline:
                assert len(found) == count, found
                return found


@contextlib.contextmanager
def whole_setup(folder: Path) -> Iterator[Setup]:
    """Build the model and start everything, with all files in `folder`."""
    import openai

    model = folder / "tiny-llama"
    subprocess.run([sys.executable, ROOT / "tests/servers/tiny_llama.py", model], check=True, env=ENV)
    environment = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hf"),
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
    serve = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--device", "cpu"]
    listen = ["--host", "127.0.0.1", "--port", "0"]
    with started([*serve, *listen], folder / "transformers.log", **environment) as upstream:
        run = [sys.executable, "-m", "gateway.cli", "run", "--port", "0", "--data-dir", str(folder / "data")]
        config = write_config(folder, str(model), upstream.url)
        run += ["--config", str(config)]
        with started(run, folder / "gateway.log", PYTHONWARNINGS="error") as gateway:
            direct, through = (
                openai.OpenAI(
                    base_url=f"{server.url}/v1",
                    api_key="sk-none",
                    max_retries=0,
                    http_client=openai.DefaultHttpxClient(trust_env=False),
                )
                for server in (upstream, gateway)
            )
            with direct, through:
                yield Setup(gateway, folder / "data", str(model), direct, through)


def write_config(folder: Path, model: str, url: str) -> Path:
    """A configuration with a table that knows the model, and a second name for it."""
    row = {
        "runtime_per_output_token": PER_OUTPUT_TOKEN,
        "runtime_for_prompt_tokens": {str(knot): FIRST + PER_PROMPT_TOKEN * knot for knot in KNOTS},
        "overhead": 0.0,
        "provenance": "assumed",
    }
    table = folder / "tiny-table.json"
    table.write_text(json.dumps({"format": 1, "stacks": {"paper-machine": {"models": {model: row}}}}))
    entry = {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "sk-of-the-gateway"}
    config = {
        "model_list": [{"model_name": "nickname", "litellm_params": entry}],
        "trueclock": {"upstream": url, "tables": [str(table)], "stack": "paper-machine"},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path
