"""Predictions of models never measured: what comes out, how far it may be trusted, and the command."""

import json
import statistics
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.architectures import Architecture, architectures
from profiler.bands import SERVED, Band, band
from profiler.cli import main
from profiler.config import ArchitectureError
from profiler.hardware import Hardware, LeftOut, hardware, stacks
from profiler.prediction import predict, predicted_stack
from profiler.roofline import KNOTS, Placement, divides, place, step_seconds, weight_bytes
from profiler.spec import written_out
from profiler.tables import table_text
from stream.coefficients import load_tables
from stream.runtime import runtime_function
from stream.table_format import parse_table, read_table

MODELS = architectures()
LLAMA = MODELS["meta-llama/llama-3.1-8b"]
MIXTRAL = MODELS["mistralai/mixtral-8x7b"]
STACKS = stacks()
SPEC = "layers=32,hidden=4096,heads=32,kv_heads=8,ffn=14336,vocabulary=128256"


# ---- predictions


@pytest.mark.parametrize("stack", STACKS)
def test_a_prediction_of_every_stack_is_a_row_that_reads_back(stack: str) -> None:
    found = predicted_stack(
        [predict(MODELS[name], STACKS[stack]) for name in ("qwen/qwen3-8b", LLAMA.name)], "mine", "2026"
    )
    [read] = parse_table(table_text([found]).encode(), "x").stacks
    assert (read.name, list(read.rows)) == ("mine", ["qwen/qwen3-8b", LLAMA.name])
    assert read.hardware is not None
    assert STACKS[stack].label in read.hardware
    for row in read.rows.values():
        assert (row.provenance, row.source) == ("predicted", MODELS[row.name].source)
        assert row.intervals is not None
        assert row.accelerators is not None
        assert row.coefficients.per_output_token > 0


def numbers(draw: st.DrawFn) -> Architecture:
    heads = draw(st.sampled_from([8, 16, 32, 64]))
    size = draw(st.sampled_from([64, 96, 128]))
    return replace(
        LLAMA,
        layers=draw(st.integers(1, 120)),
        heads=heads,
        kv_heads=draw(st.sampled_from([1, 2, 4, 8])),
        head_dim=size,
        hidden=heads * size,
        ffn=8 * draw(st.integers(16, 8192)),
        vocabulary=draw(st.integers(1000, 300_000)),
        gated=draw(st.booleans()),
        parallel=draw(st.booleans()),
        weights=draw(st.sampled_from(["bf16", "fp8", "int8", "int4"])),
    )


@given(st.composite(numbers)(), st.sampled_from(["h100", "h200", "b200"]), st.sampled_from([None, 1, 2, 8]))
def test_runtimes_grow_with_prompt_and_output_and_the_band_holds_them(
    model: Architecture, name: str, tensor: int | None
) -> None:
    found = predict(model, STACKS[name], tensor=tensor)
    runtime = runtime_function(found.coefficients)
    grid = [[runtime(p, o) for o in (1, 2, 50, 1000)] for p in (1, 16, 100, 2048, 20_000, 200_000)]
    assert all(low <= high for line in grid for low, high in pairwise(line))
    assert all(low <= high for line in zip(*grid, strict=True) for low, high in pairwise(line))
    assert all(low < 1 < high for low, high in (found.band.token, found.band.prompt, found.band.runtime))
    assert found.devices == (tensor or place(model, STACKS[name]).tensor * place(model, STACKS[name]).stages)
    # No faster than the memory: every weight of a layer is read for every token.
    read = weight_bytes(model) - 2.0 * model.embedding_parameters
    assert found.coefficients.per_output_token > 0.999 * read / found.devices / STACKS[name].bandwidth


def test_fewer_bytes_are_read_faster() -> None:
    h100 = STACKS["h100"]
    seconds = [
        predict(LLAMA, h100, weights=weights).coefficients.per_output_token for weights in ("bf16", "int8", "int4")
    ]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[2] < 0.6 * seconds[0]
    assert predict(LLAMA, h100, weights="fp16").row() == predict(LLAMA, h100).row(), "16 bits are 16 bits"


def test_what_a_reader_has_to_know_is_noted() -> None:
    plain = predict(LLAMA, STACKS["h100"])
    assert (plain.notes, plain.fits, plain.devices) == ((), True, 1)
    assert predict(LLAMA, STACKS["h100"], weights="fp8").notes == ()
    assert "does not compute in fp8" in predict(LLAMA, hardware("a100"), weights="fp8").notes[0]
    assert "16 bits" in predict(LLAMA, STACKS["h100"], weights="int4").notes[0]
    large = predict(MODELS["meta-llama/llama-3.1-70b"], STACKS["h100"], tensor=1, notes=["said before"])
    assert large.notes == ("said before", "does not fit the memory of 1 of these devices")
    assert not large.fits
    assert large.row("mine").note == (
        "1 x NVIDIA H100 SXM 80 GB (tensor parallel 1), 16-bit weights. said before."
        " does not fit the memory of 1 of these devices"
    )


@pytest.mark.parametrize(
    ("weights", "expected"), [("mxfp4", "mxfp4 is a form of experts"), ("fp3", "weights 'fp3' are not known")]
)
def test_weights_that_cannot_be(weights: str, expected: str) -> None:
    with pytest.raises(ArchitectureError, match=expected):
        predict(LLAMA, STACKS["h100"], weights=weights)


# ---- models of the paper whose measurements the calibration does not have: published coefficients, from numbers

PLAIN = "gated=false,tied=true"
NEVER_MEASURED = {
    "together/bloom": (f"layers=70,hidden=14336,heads=112,ffn=57344,vocabulary=250880,{PLAIN}", 8),
    "together/opt-66b": (f"layers=64,hidden=9216,heads=72,ffn=36864,vocabulary=50272,{PLAIN}", 4),
    "together/gpt-neox-20b": ("layers=44,hidden=6144,heads=64,ffn=24576,vocabulary=50432,gated=false,parallel=true", 1),
    "together/yalm": ("layers=80,hidden=10240,heads=128,ffn=27308,vocabulary=128000,tied=true", 4),
}
OUTPUTS = (1, 2, 4, 8, 16, 32, 64)


def published(name: str) -> tuple[list[float], Band]:
    """Published over predicted runtimes of one of them, at every published prompt size, and the band promised."""
    spec, tensor = NEVER_MEASURED[name]
    tables = load_tables(stack="a100-megatron")
    row = tables.row("a100-megatron", name)
    assert row is not None
    found = predict(written_out(spec), hardware("a100"), tensor=tensor)
    here, there = runtime_function(found.coefficients), tables.runtime("a100-megatron", row)
    return [there(p, o) / here(p, o) for p in row.coefficients.knots for o in OUTPUTS], found.band


@pytest.mark.parametrize("name", NEVER_MEASURED)
def test_models_that_no_calibration_saw_are_near_what_was_published(name: str) -> None:
    ratios, _ = published(name)
    assert statistics.median(abs(1 / ratio - 1) for ratio in ratios) < 0.06
    assert statistics.median(ratios) == pytest.approx(1, abs=0.06)


def test_the_band_holds_as_many_of_them_as_it_promises() -> None:
    within = []
    for name in NEVER_MEASURED:
        ratios, promised = published(name)
        low, high = promised.runtime
        within += [low <= ratio <= high for ratio in ratios]
    assert 0.7 < statistics.fmean(within) < 0.95


# ---- bands


def width(model: Architecture, stack: Hardware) -> float:
    low, high = band(model, stack).runtime
    return high / low


def test_the_band_is_wider_where_less_was_measured() -> None:
    h100 = STACKS["h100"]
    quantised = replace(LLAMA, weights="int4")
    assert band(LLAMA, h100) == SERVED["plain"]
    assert width(LLAMA, h100) < width(replace(LLAMA, weights="fp8"), h100) < width(MIXTRAL, h100)
    assert width(quantised, h100) == width(MIXTRAL, h100)
    assert width(LLAMA, h100) < width(LLAMA, STACKS["h200"]) < width(LLAMA, STACKS["b200"])


def test_the_band_is_that_of_models_left_out_of_the_calibration() -> None:
    models = LeftOut("model", "all", 0.02, 0.08, (0.95, 1.06))
    measured = replace(hardware("a100"), left_out=(models,))
    alike = replace(LLAMA, kv_heads=LLAMA.heads)
    assert band(alike, measured).runtime == (0.95, 1.06)
    assert band(alike, measured).median == 0.02
    assert width(LLAMA, measured) > width(alike, measured), "no model measured there had grouped heads"
    assert width(MIXTRAL, measured) > width(LLAMA, measured)
    both = replace(measured, left_out=(LeftOut("model", "first", 0.05, 0.2, (0.85, 1.2)), models))
    assert (band(alike, both).prompt, band(alike, both).runtime) == ((0.85, 1.2), (0.95, 1.06))
    degrees = replace(measured, left_out=(replace(models, of="degree"),))
    assert width(LLAMA, degrees) > width(LLAMA, measured), "one model tells less of others"
    kernels = replace(measured, left_out=(replace(models, of="kernels"),))
    nothing = band(LLAMA, replace(measured, left_out=()))
    assert band(LLAMA, kernels) == nothing, "kernels do not tell of servers"
    assert nothing.median is None
    low, high = nothing.runtime
    assert low < 0.7
    assert high > 1.7


@pytest.mark.parametrize("name", ["a100", "v100"])
def test_the_band_is_the_honest_one_of_models_left_out_with_their_twins(name: str) -> None:
    stack, alike = hardware(name), replace(LLAMA, kv_heads=LLAMA.heads)
    whole, first, found = stack.error_of("shape"), stack.error_of("shape", "first"), band(alike, stack)
    assert whole is not None
    assert first is not None
    assert (found.median, found.runtime, found.prompt) == (whole.median, whole.interval, first.interval)
    assert width(alike, stack) > width(alike, replace(stack, left_out=tuple(stack.left_out[:2])))


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_the_band_of_gamma_is_its_own_and_wider(stack: Hardware) -> None:
    for model in (LLAMA, MIXTRAL, replace(LLAMA, weights="fp8")):
        found = band(model, stack)
        assert found.intervals["context_seconds_per_token2"] == list(found.context)
        assert found.context[0] < found.token[0]
        assert found.context[1] > found.token[1]
        assert (found.context[0] == 0) == (stack.host_layer > 0), "the host hides what context costs"


# ---- devices that share a model


@pytest.mark.parametrize(
    ("heads", "kv_heads", "tensor", "can"),
    [(32, 8, 1, True), (32, 8, 4, True), (32, 8, 16, True), (32, 8, 3, False), (28, 4, 7, False), (40, 10, 4, False)],
)
def test_devices_share_heads_evenly_or_not_at_all(heads: int, kv_heads: int, tensor: int, can: bool) -> None:
    model = replace(LLAMA, heads=heads, kv_heads=kv_heads)
    assert divides(model, tensor) is can
    if can:
        assert predict(model, STACKS["h100"], tensor=tensor).devices == tensor
        return
    with pytest.raises(ArchitectureError, match=f"{tensor} devices cannot share its {heads} attention heads"):
        predict(model, STACKS["h100"], tensor=tensor)


def test_a_model_is_placed_on_as_many_as_can_share_it() -> None:
    odd = replace(MODELS["meta-llama/llama-3.1-70b"], heads=71, kv_heads=71)
    assert place(odd, STACKS["h100"]) == Placement(1, 4)
    assert place(replace(odd, heads=70, kv_heads=70), STACKS["h100"]) == Placement(2, 2)


def test_more_devices_than_a_node_has_are_noted() -> None:
    [note] = predict(LLAMA, STACKS["h100"], tensor=16).notes
    assert note.startswith("16 devices are more than the 8 of a node")
    assert predict(LLAMA, STACKS["h100"], tensor=8).notes == ()


def test_what_fits_leaves_the_server_its_share() -> None:
    tight = replace(STACKS["h100"], memory_bytes=weight_bytes(LLAMA) * 1.08)
    assert not predict(LLAMA, tight, tensor=1).fits
    assert predict(LLAMA, replace(tight, memory_bytes=weight_bytes(LLAMA) * 1.15), tensor=1).fits


# ---- how long prompts can be


@pytest.mark.parametrize(
    ("longest", "knots"),
    [
        (None, KNOTS),
        (10**7, KNOTS),
        (131_072, KNOTS),
        (2048, KNOTS[: KNOTS.index(2048) + 1]),
        (1000, (*KNOTS[: KNOTS.index(768) + 1], 1000)),
        (1, (1,)),
    ],
)
def test_knots_end_where_the_model_does(longest: int | None, knots: tuple[int, ...]) -> None:
    found = predict(LLAMA, STACKS["h100"], longest=longest)
    assert found.coefficients.knots == knots
    assert bool(found.notes) == (knots != KNOTS)
    whole = predict(LLAMA, STACKS["h100"]).coefficients
    shared = zip(found.coefficients.prompt_seconds[:-1], whole.prompt_seconds, strict=False)
    assert all(here == there for here, there in shared)


def test_gamma_is_that_of_contexts_there_can_be() -> None:
    a100 = hardware("a100")
    short = predict(LLAMA, a100, longest=1024).coefficients.context
    near, far = (step_seconds(LLAMA, a100, Placement(1), 1, context) for context in (0, 1024))
    assert short == pytest.approx((far - near) / 1024, rel=1e-3)
    assert short < predict(LLAMA, a100).coefficients.context, "the host hides what a short context costs"


# ---- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    status = main(["predict", *arguments])
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    return captured.out


def test_one_model_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, "--arch", "llama-3.1-8b", "--hardware", "h100")
    assert text.startswith("meta-llama/llama-3.1-8b on h100: predicted, 1 x NVIDIA H100 SXM 80 GB")
    for expected in ("16.1 of 80 GB", "it fits", "F(512)", "beta", "gamma", "Calibrated on", "median error 3.0%"):
        assert expected in text
    text = run(capsys, "--arch", "llama-3.1-70b", "--hardware", "h100", "--tensor-parallel", "1")
    assert "it does NOT fit" in text
    assert "Note: does not fit the memory of 1" in text
    assert "of context at most" in run(capsys, "--arch", "deepseek-v3", "--hardware", "b200")


def test_all_models_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "--arch", "all", "--hardware", "h200").splitlines()
    assert len(lines) == len(MODELS) + 3
    assert {line.split()[0] for line in lines[3:]} == set(MODELS)
    text = run(capsys, "--arch", "qwen3-8b", "--arch", SPEC, "--hardware", "h100", "--tensor-parallel", "8")
    assert "custom" in text
    text = run(capsys, "--arch", "llama-3.1-405b", "--arch", "qwen3-8b", "--hardware", "v100", "--tensor-parallel", "1")
    assert text.endswith("\nNote: does not fit the memory of 1 of these devices: meta-llama/llama-3.1-405b\n")


def test_json_has_the_row_and_what_it_stands_on(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "--arch", "mixtral-8x7b", "--hardware", "h100", "--dtype", "fp16", "--json"))
    row = found["models"]["mistralai/mixtral-8x7b"]
    assert (found["stack"], found["hardware"], row["provenance"]) == ("h100-predicted", "h100", "predicted")
    assert (row["tensor_parallel"], row["accelerators"], row["fits"], row["calibrated"]) == (2, 2, True, True)
    assert row["intervals"]["runtime"] == list(SERVED["special"].runtime)
    assert row["left_out"]["model"]["median"] == 0.03


def test_a_table_is_written_added_to_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "mine.json"
    given = ["--hardware", "h100", "--out", str(table)]
    text = run(capsys, "--arch", SPEC, *given, "--name", "my/model")
    assert text.endswith(f"1 row of the stack h100-predicted written to {table}\n")
    run(capsys, "--arch", "qwen3-8b", "--arch", "qwen3-14b", *given)
    run(capsys, "--arch", "qwen3-8b", *given, "--stack", "other")
    stacks_there = {stack.name: stack for stack in read_table(table).stacks}
    assert {name: len(stack.rows) for name, stack in stacks_there.items()} == {"h100-predicted": 3, "other": 1}
    request = ["--prompt-tokens", "512", "--output-tokens", "1", "--table", str(table), "--stack", "h100-predicted"]
    assert main(["estimate", "--model", "my/model", *request]) == 0
    seconds = float(capsys.readouterr().out)
    mine = stacks_there["h100-predicted"].rows["my/model"].coefficients
    assert seconds == mine.prompt_seconds[mine.knots.index(512)]


def test_a_config_json_from_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"model_type": "brandnew", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32}
    config |= {"num_key_value_heads": 8, "intermediate_size": 14_336, "vocab_size": 128_256}
    config |= {"quantization_config": {"quant_method": "awq", "bits": 4}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    text = run(capsys, "--arch", str(tmp_path), "--hardware", "h100", "--name", "mine")
    assert text.startswith("mine on h100")
    assert "int4 weights" in text
    assert "Note: model type 'brandnew' is not known: read by its keys alone." in text
    assert "quantised weights save reading only" in text
    given = ["--arch", str(tmp_path), "--hardware", "h100"]
    assert "16-bit weights" in run(capsys, *given, "--dtype", "bf16", "--name", "mine")
    assert main(["predict", *given]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{tmp_path.name} on h100")
    assert captured.err == (
        f"profiler predict: the row is called {tmp_path.name!r}, after its file: --name gives it the name that it is"
        " served under\n"
    )


def test_a_config_json_that_knows_its_name_and_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50_257}
    config |= {"n_positions": 1024, "_name_or_path": "openai-community/gpt2"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    table = tmp_path / "t.json"
    text = run(capsys, "--arch", str(tmp_path), "--hardware", "a100", "--out", str(table))
    assert text.startswith("openai-community/gpt2 on a100-megatron")
    assert "F(512)" in text
    assert "F(2048)" not in text
    assert "made for 1,024 tokens at most: F ends there" in text
    [stack] = read_table(table).stacks
    assert stack.rows["openai-community/gpt2"].coefficients.last_knot == 1024
    text = run(capsys, "--arch", str(tmp_path), "--arch", "qwen3-8b", "--hardware", "a100")
    assert " - " in text.splitlines()[3]
    assert text.endswith("Note: made for 1,024 tokens at most: F ends there: openai-community/gpt2\n")


WRONG = {
    "hardware": (["--arch", "qwen3-8b", "--hardware", "h300"], "hardware 'h300' is not known: there are a100-megatron"),
    "shared": (["--arch", "qwen3-8b", "--hardware", "h100", "--tensor-parallel", "3"], "3 devices cannot share its 32"),
    "arch": (["--arch", "qwen4-8b", "--hardware", "h100"], "no shipped model, no file and no numbers; there are qwen"),
    "name": (["--arch", "all", "--hardware", "h100", "--name", "x"], "--name names one model"),
    "mxfp4": (["--arch", "qwen3-8b", "--hardware", "h100", "--dtype", "mxfp4"], "mxfp4 is a form of experts"),
    "out": (["--arch", "qwen3-8b", "--hardware", "h100", "--out", "/nowhere/x.json"], "/nowhere/"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_on_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, expected = WRONG[name]
    assert main(["predict", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("profiler predict: ")
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("devices", ["0", "x", "1.5", "4000"])
def test_devices_are_counted(devices: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--arch", "qwen3-8b", "--hardware", "h100", "--tensor-parallel", devices])
    assert ended.value.code == 2
    assert "expected a whole number from 1 to 1024" in capsys.readouterr().err


def test_help_needs_no_numpy() -> None:
    code = "import sys, profiler.predict_command; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == "False\n"


# ---- hardware whose kernels were measured elsewhere


@pytest.mark.parametrize("name", ["h200", "b200", "a100-present"])
def test_kernels_of_other_devices_are_those_of_a_faster_or_slower_one(name: str) -> None:
    there, h100 = STACKS[name], STACKS["h100"]
    assert there.calibrated
    assert "no server was measured" in there.calibrated_on
    assert all(0 < error.median < 0.2 for error in there.left_out)
    efficiencies = (
        "read",
        "compute",
        "attention_read",
        "attention_compute",
        "experts_read",
        "experts_compute",
        "reduce_link",
    )
    assert all(0.4 < getattr(there, each) <= 1 for each in efficiencies)
    assert (there.small, there.step) == (h100.small, h100.step)
    for model in (LLAMA, MIXTRAL, MODELS["qwen/qwen3-32b"]):
        ratio = predict(model, there, tensor=2).coefficients.per_output_token
        ratio /= predict(model, h100, tensor=2).coefficients.per_output_token
        # What the host and the launches take is the same, what the memory does goes with its bandwidth.
        least, most = sorted((1.0, h100.bandwidth / there.bandwidth))
        assert least < ratio < most
