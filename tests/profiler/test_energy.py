"""Joules per token: laws, fits that find the truth they were made from, the command's columns and its error lines."""

import csv
import io
import json
import math
import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.cli import main
from profiler.energy import DEVICES, Server, Serving, demand, joules_per_token, on_device, server, short_name
from profiler.energy_csv import COLUMNS, EnergyError, read_measured, read_table
from profiler.energy_fit import Fitted, bands, fit, shipped
from profiler.energy_fitted import server_json
from profiler.energy_subject import subject
from profiler.hardware import hardware
from profiler.power import board_power, energy_file
from tests.prove import energy as judge

ROOT = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("TRUECLOCK_GOLDEN", ""), "ml_energy_lm-arena-chat.csv")
DENSE, MIXTURE, HYBRID = "Dense Transformer", "MoE", "Mamba-Transformer Hybrid"
MODELS = (
    ("Qwen/Qwen3-8B", DENSE, 8, 8, "bfloat16", 1),
    ("Qwen/Qwen3-14B", DENSE, 14, 14, "bfloat16", 1),
    ("google/gemma-3-27b-it", DENSE, 27, 27, "bfloat16", 2),
    ("meta-llama/Llama-3.1-70B-Instruct", DENSE, 70, 70, "bfloat16", 4),
    ("meta-llama/Llama-3.1-405B-Instruct-FP8", DENSE, 405, 405, "fp8", 8),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", MIXTURE, 30, 3, "bfloat16", 2),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", MIXTURE, 109, 17, "bfloat16", 4),
    ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", HYBRID, 9, 9, "bfloat16", 1),
)
TRUTH = Server(0.27, 150e-12, 1.3e-12, 1.05, 40e-6, 1.5, 1.2, 0.4)


def serving(model: str = "Qwen/Qwen3-8B", sequences: float = 64.0, **other: object) -> Serving:
    name, kind, total, active, weights, devices = next(each for each in MODELS if each[0] == model)
    known = subject(name, kind, float(total), float(active), "fp8" if weights == "fp8" else "bf16")
    experts = devices if kind == MIXTURE else 1
    return Serving(known, "h100", devices, 1, experts, sequences, 600.0)._replace(**other)


def joules(*servings: Serving, constants: Server | None = None) -> list[float]:
    return joules_per_token(demand(servings), constants or server()).tolist()


def servings() -> list[Serving]:
    return [serving(model[0], float(batch)) for model in MODELS for batch in (8, 32, 128, 512)]


def rows(truth: Server = TRUTH, noise: float = 0.0) -> list[dict[str, str]]:
    """Measured configurations, made of a known truth."""
    drawn = random.Random(1)
    found = []
    for model, kind, total, active, weights, devices in MODELS:
        for batch in (8, 32, 128, 512):
            (true,) = joules(serving(model, float(batch)), constants=truth)
            cells = (model, kind, active, total, weights, "NVIDIA H100", devices, 1)
            spread = (devices, 1) if kind == MIXTURE else (1, devices)
            joule = true * math.exp(drawn.gauss(0, noise))
            found.append([*cells, *spread, batch, 600.0, joule, 12.3, 0.5])
    names = "model_id architecture activated_params_billions total_params_billions weight_precision gpu_model num_gpus"
    names += " data_parallel expert_parallel tensor_parallel max_num_seqs avg_output_len"
    names += " energy_per_token_joules avg_batch_size avg_power_watts"
    return [dict(zip(names.split(), map(str, each), strict=True)) for each in found]


def written(path: Path, found: Sequence[dict[str, str]], without: Sequence[str] = ()) -> Path:
    judge.write(path, found, [name for name in found[0] if name not in without])
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["energy", *map(str, arguments)]) == 0
    return capsys.readouterr().out


# --- laws ---


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([each[0] for each in MODELS]), st.floats(1, 1000), st.floats(1.01, 8))
def test_more_at_once_takes_fewer_joules_each(model: str, sequences: float, more: float) -> None:
    few, many = joules(serving(model, sequences), serving(model, sequences * more))
    assert 0 < many <= few * (1 + 1e-9)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([DENSE, MIXTURE, HYBRID]), st.floats(2, 300), st.floats(1.3, 3), st.floats(1, 256))
def test_more_parameters_take_more_joules(kind: str, total: float, more: float, sequences: float) -> None:
    def of(billions: float) -> Serving:
        active = billions / 8 if kind == MIXTURE else billions
        return serving(devices=8, sequences=sequences)._replace(subject=subject("new", kind, billions, active, "bf16"))

    small, large = joules(of(total), of(total * more))
    assert small < large


def test_the_band_is_around_the_middle_and_wider_for_what_is_less_known() -> None:
    guessed = serving()._replace(subject=subject("never/heard-of", DENSE, 8.0, 8.0, "bf16"))
    mixture, elsewhere = serving("Qwen/Qwen3-30B-A3B-Instruct-2507"), serving(device="b200")
    middle, low, high = bands([serving(), guessed, mixture, elsewhere], shipped())
    assert (low < middle).all()
    assert (middle < high).all()
    widths = (high / low).tolist()
    assert min(widths[1:]) > widths[0]


def test_longer_replies_carry_less_of_the_prompt() -> None:
    short, long = joules(serving(sequences=8.0, output=50.0), serving(sequences=8.0, output=500.0))
    assert short > long


def test_replicas_are_servers_of_their_own() -> None:
    assert joules(serving(devices=4, replicas=4)) == pytest.approx(joules(serving()))


def test_experts_may_lie_on_more_devices_than_a_replica_has() -> None:
    spread = serving("Qwen/Qwen3-30B-A3B-Instruct-2507", 64.0, devices=4, replicas=2, expert_devices=4)
    assert joules(spread) == pytest.approx(joules(spread._replace(replicas=1, sequences=128.0)))


def test_the_batch_is_what_memory_holds() -> None:
    tight = serving("meta-llama/Llama-3.1-70B-Instruct", devices=2)
    some, more = (demand([tight._replace(sequences=sequences)]).batch[0] for sequences in (1e4, 1e5))
    assert some == more < 300


# --- devices ---


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_has_public_constants(device: str) -> None:
    assert 0.01 < joules(serving(device=device))[0] < 1


def test_other_devices_take_the_same_share_of_their_limit() -> None:
    boards = energy_file()["boards"]
    for name, like, stack in (
        ("v100-32gb", "a100-80gb", "v100-megatron"),
        ("h200", "h100", "h200"),
        ("b200", "h100", "b200"),
    ):
        home = hardware("a100-vllm-2023" if like == "a100-80gb" else "h100")
        found = on_device(board_power(like), home, hardware(stack), boards[name]["tdp_watts"])
        assert board_power(name).joules_per_byte == pytest.approx(found.joules_per_byte, rel=5e-3)
        assert board_power(name).joules_per_flop == pytest.approx(found.joules_per_flop, rel=5e-3)
        assert board_power(name).idle == found.idle
    constants = server()
    assert (board_power("h100").idle, board_power("h100").joules_per_byte) == (
        constants.idle,
        constants.joules_per_byte,
    )


@pytest.mark.parametrize("name", ["H100", "NVIDIA H100", "NVIDIA H100 80GB HBM3", "h100-sxm5", "H100-80GB"])
def test_a_device_goes_by_many_names(name: str) -> None:
    assert short_name(name) == "h100"


# --- models ---


def test_models_are_known_by_name_and_by_about_their_size() -> None:
    assert subject("Qwen/Qwen3-8B", DENSE, 8.0, 8.0, "bf16").known
    assert subject("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", MIXTURE, 235.0, 22.0, "fp8").known
    assert not subject("Qwen/Qwen3-8B", DENSE, 80.0, 80.0, "bf16").known, "of that name, but ten times the size"
    assert not subject("mine", DENSE, 8.0, 8.0, "bf16").known


def test_one_architecture_is_one_family() -> None:
    one, two = (subject(f"meta-llama/Llama-3.{n}-70B-Instruct", DENSE, 70.0, 70.0, "bf16") for n in (1, 3))
    assert one.family == two.family != subject("Qwen/Qwen3-8B", DENSE, 8.0, 8.0, "bf16").family


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([DENSE, MIXTURE, HYBRID, ""]), st.floats(0.01, 3000), st.floats(0.01, 1))
def test_a_guess_has_about_the_parameters_stated(kind: str, total: float, share: float) -> None:
    model = subject("mine", kind, total, total * share, "bf16").architecture
    assert 0.5 < model.total_parameters() / (total * 1e9) < 2


# --- fits ---


def test_a_fit_finds_the_truth_it_was_made_from() -> None:
    given_, true = servings(), joules(*servings(), constants=TRUTH)
    found = fit(given_, true)
    assert np.allclose(joules(*given_, constants=found.constants), true, rtol=0.06)
    assert found.spread == 0.1, "no narrower, however close together the models"
    assert found.devices == {"h100"}


def test_a_model_that_is_far_off_widens_the_band_and_spoils_no_other() -> None:
    given_, true = servings(), joules(*servings(), constants=TRUTH)
    wild = [
        each * (5 if one.subject.family == given_[0].subject.family else 1)
        for one, each in zip(given_, true, strict=True)
    ]
    found = fit(given_, wild)
    assert found.spread > 0.1
    off = np.abs(np.array(joules(*given_[4:], constants=found.constants)) / true[4:] - 1)
    assert np.median(off) < 0.15


def test_the_order_of_measurements_does_not_matter() -> None:
    given_, true = servings(), joules(*servings(), constants=TRUTH)
    mixed = random.Random(3).sample(range(len(true)), len(true))
    assert fit([given_[n] for n in mixed], [true[n] for n in mixed]) == fit(given_, true)


def test_few_measurements_fit_too() -> None:
    found = fit([serving()], [0.14])
    assert joules(serving(), constants=found.constants)[0] == pytest.approx(0.14, rel=0.15)
    assert found.spread == 0.15, "of one model, none can be left out"


def test_constants_are_printed_as_they_ship(tmp_path: Path) -> None:
    printed_ = json.loads(server_json(written(tmp_path / "measured.csv", rows())))
    assert printed_.keys() | {"source"} == energy_file()["server"].keys()
    assert Server(**printed_["constants"]).idle == pytest.approx(
        fit(servings(), joules(*servings(), constants=TRUTH)).constants.idle, rel=0.01
    )


def test_what_ships_says_where_it_is_from() -> None:
    assert isinstance(shipped(), Fitted)
    assert "ML.ENERGY" in energy_file()["server"]["source"]


# --- the command ---


def test_columns_are_appended_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "test.csv", rows())
    header, *found = csv.reader(io.StringIO(printed(capsys, "--csv", file)))
    given_ = list(csv.reader(io.StringIO(file.read_text())))
    assert [header, *found] == [[*row, *more[len(row) :]] for row, more in zip(given_, [header, *found], strict=True)]
    assert header[-3:] == list(COLUMNS)
    for row in found:
        middle, low, high = map(float, row[-3:])
        assert 0 < low <= middle <= high


def test_only_what_is_known_before_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Predictions are the same, to the byte, without any other column; and a fit uses its target alone."""
    others = [name for name in rows()[0] if name not in judge.ALLOWED]
    measured = [name for name in others if name != judge.TARGET]
    whole, bare = (written(tmp_path / name, rows(), without) for name, without in (("a", ()), ("b", others)))
    fits = (written(tmp_path / name, rows(), without) for name, without in (("c", ()), ("d", measured)))

    def predicted(*arguments: object) -> list[list[str]]:
        return [row[-3:] for row in csv.reader(io.StringIO(printed(capsys, *arguments)))]

    assert predicted("--csv", whole) == predicted("--csv", bare)
    one, two = (predicted("--csv", whole, "--fit", each) for each in fits)
    assert one == two == predicted("--csv", bare, "--fit", tmp_path / "c")


def test_the_order_of_rows_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ordered = written(tmp_path / "ordered", rows(noise=0.1))
    mixed = written(tmp_path / "mixed", random.Random(2).sample(rows(noise=0.1), len(rows())))
    assert printed(capsys, "--csv", ordered, "--fit", ordered) == printed(capsys, "--csv", ordered, "--fit", mixed)
    lines = printed(capsys, "--csv", mixed, "--fit", ordered).splitlines()
    assert sorted(lines) == sorted(printed(capsys, "--csv", ordered, "--fit", ordered).splitlines())


def test_the_judge_passes_a_fit_of_what_it_knows() -> None:
    found = judge.together([judge.judge(*judge.halves(rows(noise=0.05), seed)) for seed in range(2)])
    assert found.passes
    error, held, width = found.figures
    assert error < 0.1
    assert held > 0.7
    assert width < 2.5


def test_a_file_may_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "test.csv", rows())
    assert printed(capsys, "--csv", file, "--out", tmp_path / "out.csv") == ""
    assert (tmp_path / "out.csv").read_text() == printed(capsys, "--csv", file)


def test_missing_columns_that_may_be_missing_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "test.csv", rows()[:4], ("architecture", "weight_precision", "avg_output_len"))
    assert main(["energy", "--csv", str(file)]) == 0
    told = f"profiler energy: warning: {file}: no column architecture, weight_precision, avg_output_len: assumed\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("gpu_model", "MI300X", "line 2: gpu_model: expected one of h100, h200, b200, a100, in any spelling"),
        ("gpu_model", "A100-40GB", "line 2: gpu_model: expected one of h100, h200, b200, a100, in any spelling"),
        ("weight_precision", "ternary", "line 2: weight_precision: expected one of bfloat16, bf16"),
        ("num_gpus", "1.5", "line 2: num_gpus: expected a whole number, found '1.5'"),
        ("num_gpus", "0", "line 2: num_gpus: expected a number above 0, 100,000 at most, found '0'"),
        ("max_num_seqs", "many", "line 2: max_num_seqs: expected a number above 0"),
        ("max_num_seqs", "nan", "line 2: max_num_seqs: expected a number above 0"),
        ("max_num_seqs", "", "line 2: max_num_seqs: expected a number above 0, 10,000,000 at most, found ''"),
        ("data_parallel", "3", "line 2: data_parallel: expected a divisor of num_gpus (1), found '3'"),
        ("model_id", " ", "line 2: model_id: expected a name, found ' '"),
        ("total_params_billions", "-1", "line 2: total_params_billions: expected a number above 0"),
    ],
)
def test_cells_that_cannot_be(column: str, cell: str, said: str, tmp_path: Path) -> None:
    file = written(tmp_path / "test.csv", [{**rows()[0], column: cell}])
    with pytest.raises(EnergyError) as error:
        read_table(file)
    assert str(error.value).startswith(f"{file}: {said}")
    assert "\n" not in str(error.value)


def test_files_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "test.csv"
    for content, said in (
        (
            b"",
            f"{file}: line 1: no column model_id, total_params_billions, gpu_model, num_gpus, max_num_seqs: the file",
        ),
        (b"model_id\n", f"{file}: line 1: no column total_params_billions, gpu_model, num_gpus, max_num_seqs: found m"),
        (b"\xff\xfe\n", f"{file}: byte 0: expected UTF-8 text"),
        (
            b'model_id,total_params_billions,gpu_model,num_gpus,max_num_seqs,note\na,8,h100,1,8,"x\n\ny"\nb,8\n',
            f"{file}: line 5: expected 6 columns, found 2",
        ),
    ):
        file.write_bytes(content)
        with pytest.raises(EnergyError) as error:
            read_table(file)
        assert str(error.value).startswith(said)
    with pytest.raises(EnergyError, match="cannot be read: No such file"):
        read_table(tmp_path / "none.csv")
    short = written(file, rows()[:1])
    short.write_text(short.read_text() + "a,b\n")
    with pytest.raises(EnergyError, match="line 3: expected 15 columns, found 2"):
        read_table(short)


def test_a_fit_needs_measurements(tmp_path: Path) -> None:
    bare = written(tmp_path / "bare.csv", rows(), (judge.TARGET,))
    with pytest.raises(EnergyError, match="line 1: no column energy_per_token_joules: found model_id"):
        read_measured(bare)
    empty = tmp_path / "empty.csv"
    empty.write_text(",".join(rows()[0]) + "\n")
    with pytest.raises(EnergyError, match="no measurements to fit, only a header"):
        read_measured(empty)
    assert read_table(empty).servings == []


def test_wrong_use_is_one_line_and_status_two(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "profiler.cli", "energy", "--csv", str(tmp_path / "none.csv")]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr == f"profiler energy: {tmp_path / 'none.csv'}: cannot be read: No such file or directory\n"


def test_an_empty_file_of_configurations_gives_its_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "empty.csv"
    file.write_text(",".join(judge.ALLOWED) + "\n\n")
    assert printed(capsys, "--csv", file) == ",".join((*judge.ALLOWED, *COLUMNS)) + "\n"


def test_the_subject_keeps_its_precision() -> None:
    found = subject("Qwen/Qwen3-8B", DENSE, 8.0, 8.0, "fp8")
    assert found.architecture == replace(found.architecture, weights="fp8")


def test_the_documents_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "energy.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for name in ("configurations.csv", "test.csv", "measured.csv"):
        written(Path(name), rows())
    for command in block.splitlines():
        assert main(command.split()[1:]) == 0
    assert COLUMNS[0] in capsys.readouterr().out
    assert COLUMNS[0] in Path("predicted.csv").read_text()


def test_the_documents_table_is_what_ships() -> None:
    text = (ROOT / "docs" / "energy.md").read_text(encoding="utf-8")
    for name in ("a100-80gb", "h100"):
        board = board_power(name)
        numbers = f"{board.tdp_watts:g} | {board.idle:.2f} | {board.joules_per_byte * 1e12:.0f}"
        rest = f"{board.joules_per_flop * 1e12:.2f} | {board.low:g} to {board.high:g}"
        assert f"| {name} | {numbers} | {rest} |" in text


if GOLDEN.is_file():

    def test_models_that_a_fit_never_saw() -> None:
        measured = judge.read(GOLDEN)
        assert judge.together([judge.judge(*judge.halves(measured, seed)) for seed in range(10)]).passes

    def test_the_constants_that_ship_are_those_of_the_measurements() -> None:
        found, ships = fit(*read_measured(GOLDEN)), shipped()
        assert found.spread == pytest.approx(ships.spread, abs=1e-3)
        assert [*vars_of(found.constants)] == pytest.approx([*vars_of(ships.constants)], rel=5e-3)


def vars_of(constants: Server) -> Sequence[float]:
    return [getattr(constants, name) for name in Server.__slots__]
