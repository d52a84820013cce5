"""docs/profiling.md holds: its commands and its code run, its links lead somewhere, its tables are the product's."""

import json
import re
import shlex
from pathlib import Path

import pytest

from profiler.cli import main
from profiler.hardware import stacks

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "profiling.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


TOKENIZER = {
    "version": "1.0",
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"},
}


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_commands(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "models" / "mine"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(CONFIG))
    (device,) = re.findall(r"^```json\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "l40s.json").write_text(device)
    (tmp_path / "requests.csv").write_text("model,prompt_tokens,output_tokens\nllama-3.1-8b,1000,200\n")
    (tmp_path / "book.txt").write_text(
        "It was a bright cold day in April, and the clocks were striking thirteen. " * 50
    )
    (model / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(COMMANDS[number])
    assert program == "profiler"
    if "--text" in arguments:
        pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[litellm]'")
    assert main(arguments) == 0
    assert {"compare": "rank", "flops": "output_flops"}.get(arguments[0], "beta") in capfd.readouterr().out


def test_the_commands_of_the_first_table_exist(capsys: pytest.CaptureFixture[str]) -> None:
    rows = re.findall(r"^\| .* \| `profiler (\w+) ([^`]*)` \|$", TEXT, re.MULTILINE)
    assert len(rows) >= 8
    for command, arguments in rows:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        usage = capsys.readouterr().out
        assert all(option in usage for option in re.findall(r"--[a-z-]+[a-z]", arguments)), command


def test_the_code_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(code, "docs/profiling.md", "exec"), {})
    assert "openai/davinci on a100, tensor parallel 8" in capsys.readouterr().out


def test_every_stack_is_told_with_its_errors() -> None:
    for name, stack in stacks().items():
        assert f"`{name}`" in TEXT, name
        left = stack.error_of("model")
        if left is not None and name.endswith("megatron"):
            row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{name}`"))
            assert f"model: {left.median:.1%}, {left.worst:.1%}" in row


def test_links() -> None:
    for target in re.findall(r"\]\(([^)\s#]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / "docs" / target).is_file(), target
