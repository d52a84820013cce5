"""`profiler compare`: the paper's ten models, dollars by hand, traces, every form of output, and wrong use."""

import csv
import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.compare import PAPER_MODELS, PAPER_STACKS, CompareError, bounds, compare, rows_of
from profiler.compare_plot import DRAWN, figures
from profiler.plot import COLOURS, Figure
from profiler.trace import TraceError, read_trace
from stream.coefficients import Tables, load_tables
from stream.table_format import stack_to_json
from tests.profiler.comparing import run, told

ROOT = Path(__file__).parents[2]
EXTRACT = ROOT / "gateway" / "replay_data" / "azure_conv_extract.csv"
TABLES = load_tables()
ACCELERATORS = {
    "openai/davinci": (8, 16),
    "ai21/j1-large": (1, 1),
    "ai21/j1-grande": (1, 2),
    "ai21/j1-jumbo": (8, 16),
    "cohere/xlarge-20220609": (4, 4),
    "anthropic/stanford-online-all-v4-s3": (4, 4),
    "microsoft/TNLGv2_530B": (24, 48),
    "together/gpt-j-6b": (1, 1),
    "together/yalm": (4, 8),
    "together/bloom": (8, 16),
}
DOLLARS = dict(zip(PAPER_STACKS, (4.096, 3.06), strict=True))


# --- the paper's numbers


def test_the_tables_say_what_the_paper_counts_with() -> None:
    for place, stack in enumerate(PAPER_STACKS):
        rows = TABLES.stacks[stack].rows
        assert {name: rows[name].accelerators for name in PAPER_MODELS} == {
            name: both[place] for name, both in ACCELERATORS.items()
        }
        assert TABLES.stacks[stack].dollars_per_accelerator_hour == DOLLARS[stack]
        assert all(row.accelerators == rows[row.proxy_of].accelerators for row in rows.values() if row.proxy_of)


def test_runtimes_and_dollars_by_hand() -> None:
    [v100] = [each for each in compare(TABLES, PAPER_STACKS, ["davinci"], {(512, 64): 1}) if each.stack[0] == "v"]
    assert v100.mean_runtime_seconds == pytest.approx(0.3 + 63 * 0.101, rel=1e-12)
    assert v100.mean_dollars == pytest.approx((0.3 + 63 * 0.101) * 16 * 3.06 / 3600, rel=1e-12)
    assert (v100.row, v100.accelerators, v100.runtime_rank, v100.dollars_rank) == ("openai/davinci", 16, 1, 1)


def test_without_options_the_papers_ten_models_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys)
    assert found["table_version"] == TABLES.version
    assert {name: said["dollars_per_accelerator_hour"] for name, said in found["stacks"].items()} == DOLLARS
    [comparison] = found["comparisons"]
    assert (comparison["prompt_tokens"], comparison["output_tokens"], comparison["requests"]) == (512, 64, 1)
    assert Counter(row["stack"] for row in comparison["rows"]) == dict.fromkeys(PAPER_STACKS, 10)
    for stack in PAPER_STACKS:
        here = [row for row in comparison["rows"] if row["stack"] == stack]
        assert {row["model"] for row in here} == set(PAPER_MODELS)
        assert [row["runtime_rank"] for row in here] == [1, 2, 3, 4, 4, 6, 7, 8, 9, 10]
        assert [row["mean_runtime_seconds"] for row in here] == sorted(row["mean_runtime_seconds"] for row in here)
        for row in here:
            n, price = ACCELERATORS[row["model"]][PAPER_STACKS.index(stack)], DOLLARS[stack]
            assert row["mean_dollars"] == pytest.approx(row["mean_runtime_seconds"] * n * price / 3600)
    assert [row["model"] for row in comparison["rows"] if row["proxy_of"]] == ["cohere/xlarge-20220609"] * 2


def test_text_holds_both_stacks_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--prompt-tokens", "512", "--output-tokens", "64")
    lines = out.splitlines()
    assert lines[0] == "512 prompt tokens, 64 output tokens"
    assert lines[1].split() == list(PAPER_STACKS)
    assert lines[2].split() == ["model", *["seconds", "n", "rank", "$/1,000", "requests", "rank"] * 2]
    assert lines[11].split() == [
        "openai/davinci", "5.281", "8", "9", "48.069", "9", "6.663", "16", "9", "90.617", "9",
    ]  # fmt: skip
    assert lines[13].startswith("seconds are of models on 1 to 48 accelerators (n), each as it was run: ")
    proxy = "numbers of another model's measurement (proxies): cohere/xlarge-20220609 ="
    assert lines[14].startswith(f"a100-megatron: {proxy} anthropic/stanford-online-all-v4-s3")
    assert {len(line) for line in lines[2:13]} == {len(lines[2])}


def test_order_is_by_dollars_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    [comparison] = told(capsys, "--sort", "dollars")["comparisons"]
    assert [row["dollars_rank"] for row in comparison["rows"]][:10] == [1, 2, 3, 4, 4, 6, 7, 8, 9, 10]
    assert [row["model"] for row in comparison["rows"]][5:7] == ["together/yalm", "together/bloom"]


# --- points, traces, choices


def test_every_pair_of_points_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "--model", "davinci", "--prompt-tokens", "1", "512", "--output-tokens", "1", "2.0")
    points = [(each["prompt_tokens"], each["output_tokens"]) for each in found["comparisons"]]
    assert points == [(1, 1), (1, 2), (512, 1), (512, 2)]
    rows = TABLES.stacks["a100-megatron"].rows["openai/davinci"]
    seconds = [each["rows"][0]["mean_runtime_seconds"] for each in found["comparisons"]]
    assert seconds == [TABLES.runtime("a100-megatron", rows)(*point) for point in points]
    _, out, _ = run(capsys, "--model", "davinci", "--prompt-tokens", "1", "512")
    assert out.count("\n\n") == 1


def test_a_trace_is_a_mean_over_its_requests(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in EXTRACT.read_text().splitlines() if not line.startswith("#")]
    requests = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(lines)]
    assert len(requests) == 400
    found = told(capsys, "--trace", str(EXTRACT))
    [comparison] = found["comparisons"]
    assert (found["trace"], comparison["requests"]) == (str(EXTRACT), 400)
    assert comparison["prompt_tokens"] == mean(p for p, _ in requests)
    for row in comparison["rows"]:
        runtime = TABLES.runtime(row["stack"], TABLES.stacks[row["stack"]].rows[row["row"]])
        last = TABLES.stacks[row["stack"]].rows[row["row"]].coefficients.last_knot
        assert row["mean_runtime_seconds"] == pytest.approx(mean(runtime(*each) for each in requests))
        assert row["extrapolated"] == sum(p > last for p, _ in requests) / 400
    _, out, _ = run(capsys, "--trace", str(EXTRACT))
    assert out.startswith(f"400 requests of {EXTRACT}, on average 1,393 prompt and 131 output tokens\n")
    assert "a100-megatron: extrapolated beyond the profiled prompt sizes for 24.8% of the requests\n" in out


@pytest.mark.parametrize("columns", ["prompt_tokens,x,output_tokens", "ContextTokens,x,GeneratedTokens"])
def test_forms_of_traces(tmp_path: Path, columns: str) -> None:
    (tmp_path / "t.csv").write_text(f"# whose\n\ufeff{columns}\n5,,6\n# no\n5,a,6.0\n\n7,b,8\n".replace("\ufeff", ""))
    assert read_trace(tmp_path / "t.csv") == {(5, 6): 2, (7, 8): 1}


BAD_TRACES = {
    "empty": ("", "line 1: no columns prompt_tokens and output_tokens or prompt_tokens and completion_tokens or "),
    "no columns": ("a,b\n", "line 1: no columns prompt_tokens and output_tokens or "),
    "no number": ("prompt_tokens,output_tokens\n1,2\n\nx,2\n", "line 4: expected a whole number of tokens, 0 or more,"),
    "too few": ("prompt_tokens,output_tokens\n1\n", "line 2: expected 2 columns, found 1"),
    "not text": ("\udcff,b\n", "byte 0: expected UTF-8 text"),
}


@pytest.mark.parametrize(("text", "says"), BAD_TRACES.values(), ids=BAD_TRACES)
def test_a_bad_trace_is_named_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(TraceError) as caught:
        read_trace(file)
    assert str(caught.value).startswith(f"{file}: {says}")


@given(st.dictionaries(st.tuples(st.integers(0, 5000), st.integers(0, 500)), st.integers(1, 9), min_size=1, max_size=5))
def test_ranks_count_the_faster_ones(requests: dict[tuple[int, int], int]) -> None:
    found = compare(TABLES, ["a100-megatron"], PAPER_MODELS, requests)
    seconds = [each.mean_runtime_seconds for each in found]
    assert seconds == sorted(seconds)
    for each in found:
        assert each.runtime_rank == 1 + sum(other < each.mean_runtime_seconds for other in seconds)
        assert each.mean_dollars is not None
        assert each.dollars_rank == 1 + sum((other.mean_dollars or 0) < each.mean_dollars for other in found)


def test_models_in_use_are_compared_with_their_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "--model", "llama-3.1-70b", "--model", "davinci", "--model", "llama-3.1-70b")
    assert list(found["stacks"]) == ["a100-megatron", "v100-megatron", "h100-predicted"]
    [predicted] = [row for row in found["comparisons"][0]["rows"] if row["stack"] == "h100-predicted"]
    assert (predicted["model"], predicted["row"]) == ("llama-3.1-70b", "meta-llama/llama-3.1-70b")
    assert predicted["low_seconds"] < predicted["mean_runtime_seconds"] < predicted["high_seconds"]
    _, out, _ = run(capsys, "--model", "llama-3.1-70b", "--stack", "h100-predicted")
    bounds = f"({predicted['low_seconds']:.3f}-{predicted['high_seconds']:.3f})"
    assert f"{predicted['mean_runtime_seconds']:.3f} {bounds}" in out
    assert "h100-predicted: predicted, not measured\n" in out
    level = "" if predicted["interval_level"] is None else f"{predicted['interval_level']:.0%} "
    assert f"h100-predicted: in brackets {level}intervals\n" in out


def test_a_model_that_one_stack_lacks_leaves_a_gap(capsys: pytest.CaptureFixture[str]) -> None:
    stacks = ["--stack", "a100-megatron", "--stack", "v100-megatron"]
    _, out, _ = run(capsys, *stacks, "--model", "opt-66b", "--model", "davinci")
    assert [line.split() for line in out.splitlines() if line.startswith("opt-66b")] == [
        ["opt-66b", f"{0.126 + 63 * 0.055:.3f}", "-", "1", "-", "-"]
    ]
    told_so = "a100-megatron: no dollars where the number of accelerators is not known (opt-66b): a --table whose rows"
    assert f"{told_so} have `accelerators` gives it\n" in f"{out}\n"
    assert "price" not in out


# --- what is known, and how to give what is not


def test_accelerators_are_told_wherever_they_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--stack", "h100-predicted", "--model", "llama-3.1-8b", "--model", "llama-3.1-405b")
    rows = [line.split() for line in out.splitlines() if line.startswith("llama")]
    stack = TABLES.stacks["h100-predicted"]
    known = [stack.rows[f"meta-llama/{row[0]}"].accelerators for row in rows]
    assert [row[-4] for row in rows] == [str(number) for number in known]
    assert f"seconds are of models on {min(filter(None, known))} to {max(filter(None, known))} accelerators (n)" in out
    _, out, _ = run(capsys, "--stack", "h100-predicted", "--model", "llama-3.1-8b")
    assert "seconds are of models" not in out


def test_a_price_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--stack", "h100-predicted", "--stack", "a100-megatron", "--model", "davinci", "--model", "llama-3.1-70b"]
    given = ["--dollars-per-hour", "h100-predicted=9", "--dollars-per-hour", "h100-predicted=2.5"]
    found = told(capsys, *chosen, *given)
    assert {name: said["dollars_per_accelerator_hour"] for name, said in found["stacks"].items()} == {
        "h100-predicted": 2.5,
        "a100-megatron": 4.096,
    }
    assert found["table_version"] == TABLES.version, "runtimes did not change"
    for row in found["comparisons"][0]["rows"]:
        hours = row["mean_runtime_seconds"] * row["accelerators"] / 3600
        assert row["mean_dollars"] == pytest.approx(hours * row["dollars_per_accelerator_hour"])
    _, out, _ = run(capsys, *chosen, *given)
    assert "h100-predicted: dollars at 2.5 an accelerator-hour\n" in out
    assert "no dollars" not in out


def test_a_price_is_that_of_events(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = tmp_path / "constants.json"
    own.write_text(json.dumps({"stacks": {"h100-predicted": {"dollars_per_hour": 3}}, "server_power_factor": 1}))
    chosen = ["--stack", "h100-predicted", "--model", "llama-3.1-70b"]
    for options, tables in (([], TABLES), (["--constants", str(own)], load_tables(constants=own))):
        row = tables.row("h100-predicted", "llama-3.1-70b")
        assert row is not None
        costs = tables.costs("h100-predicted", row)
        assert costs is not None
        assert costs.dedicated is not None
        of_events = costs.dedicated(512, 64)
        [found] = told(capsys, *chosen, *options)["comparisons"][0]["rows"]
        assert found["mean_dollars"] == pytest.approx(of_events.dollars, rel=1e-12)
        assert found["mean_energy_joules"] == pytest.approx(of_events.energy_joules, rel=1e-12)
    given = ["--dollars-per-hour", "h100-predicted=2"]
    [found] = told(capsys, *chosen, "--constants", str(own), *given)["comparisons"][0]["rows"]
    assert found["dollars_per_accelerator_hour"] == 2


def test_a_price_is_told_with_its_range(capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, "--stack", "h100-predicted")["stacks"]["h100-predicted"]
    assert TABLES.constants is not None
    price = TABLES.constants.accelerators["h100"].dollars_per_hour
    assert said["dollars_per_accelerator_hour"] == price.value
    assert said["dollars_range"] == [price.low, price.high]
    assert said["dollars_source"] == price.source
    _, out, _ = run(capsys, "--stack", "h100-predicted")
    between = f"{price.low:g} to {price.high:g}; --dollars-per-hour h100-predicted=X changes it"
    assert f"h100-predicted: dollars at {price.value:g} an accelerator-hour ({between})\n" in f"{out}\n"


def test_without_a_price_the_option_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = tmp_path / "mine.json"
    stack = replace(TABLES.stacks["a100-megatron"], dollars_per_accelerator_hour=None)
    own.write_text(json.dumps({"stacks": {"mine": stack_to_json(stack)}}))
    _, out, _ = run(capsys, "--table", str(own), "--model", "davinci")
    asked = "--dollars-per-hour mine=X gives it"
    assert f"mine: no dollars where the price of an accelerator-hour is not known: {asked}\n" in f"{out}\n"
    assert "number of accelerators is not known" not in out
    [row] = told(capsys, "--table", str(own), "--model", "davinci")["comparisons"][0]["rows"]
    [shipped] = told(capsys, "--stack", "a100-megatron", "--model", "davinci")["comparisons"][0]["rows"]
    assert (row["mean_dollars"], row["mean_energy_joules"]) == (None, shipped["mean_energy_joules"])


def test_without_a_choice_the_other_rows_are_pointed_to(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys)
    rows = {name: len(stack.rows) for name, stack in TABLES.stacks.items()}
    said = [
        f"{rows['a100-megatron'] - 10} of a100-megatron (--stack a100-megatron)",
        f"{rows['v100-megatron'] - 10} of v100-megatron (--stack v100-megatron)",
        f"{rows['h100-predicted']} of h100-predicted (--stack h100-predicted)",
        f"{rows['api-2022']} of api-2022 (--stack api-2022)",
    ]
    assert out.splitlines()[-1] == f"rows not shown: {', '.join(said)}"
    for name, number in rows.items():
        _, out, _ = run(capsys, "--csv", "--stack", name)
        assert len(out.splitlines()) == 1 + number
        assert "not shown" not in run(capsys, "--stack", name)[1]


@given(st.sampled_from(sorted(TABLES.stacks["h100-predicted"].rows)), st.integers(0, 9000), st.integers(0, 900))
def test_bounds_are_those_of_f_at_one_output_token_and_near_those_of_t_after_many(name: str, p: int, o: int) -> None:
    row = TABLES.stacks["h100-predicted"].rows[name]
    of = bounds(TABLES, "h100-predicted", row)
    assert row.intervals
    assert of
    first, overall = row.intervals["runtime_for_prompt_tokens"], row.intervals["runtime"]
    runtime = TABLES.runtime("h100-predicted", row)
    assert of(p, 1) == pytest.approx([factor * runtime(p, 1) for factor in first])
    both = [factor / runtime(p, o) for factor in of(p, o)]
    for factor, *ends in zip(both, first, overall, strict=True):
        assert min(ends) * (1 - 1e-9) <= factor <= max(ends) * (1 + 1e-9)
    [each] = compare(TABLES, ["h100-predicted"], [name], {(p, o): 2})
    assert (each.low_seconds, each.high_seconds) == pytest.approx(of(p, o))


def test_bounds_without_an_interval_of_f_are_those_of_t() -> None:
    row = TABLES.stacks["h100-predicted"].rows["meta-llama/llama-3.1-8b"]
    only = replace(row, intervals={"runtime": [0.5, 2.0]})
    of = bounds(TABLES, "h100-predicted", only)
    assert of
    assert of(512, 1) == pytest.approx([factor * TABLES.runtime("h100-predicted", row)(512, 1) for factor in (0.5, 2)])
    assert bounds(TABLES, "h100-predicted", replace(row, intervals={"runtime_for_prompt_tokens": [0.5, 2]})) is None
    assert bounds(TABLES, "api-2022", row) is None


def test_ones_own_table_is_compared_with_shipped_ones(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = tmp_path / "mine.json"
    stack = stack_to_json(TABLES.stacks["v100-megatron"])
    own.write_text(json.dumps({"stacks": {"mine": stack}}))
    found = told(capsys, "--table", str(own), "--table", "v100-megatron")
    assert list(found["stacks"]) == ["mine", "v100-megatron"]
    rows = found["comparisons"][0]["rows"]
    assert len(rows) == 2 * len(TABLES.stacks["v100-megatron"].rows)
    assert [row["mean_dollars"] for row in rows[:15]] == [row["mean_dollars"] for row in rows[15:]]
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(stack["models"]))
    assert list(told(capsys, "--table", str(bare), "--interpolation", "helm")["stacks"]) == ["bare"]


def test_csv_is_a_line_a_model_and_stack(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(capsys, "--csv", "--prompt-tokens", "1", "9")[1])))
    assert len(rows) == 2 * 2 * 10
    assert [rows[0][name] for name in ("prompt_tokens", "output_tokens", "requests", "stack", "runtime_rank")] == [
        "1",
        "64",
        "1",
        "a100-megatron",
        "1",
    ]
    assert {row["low_seconds"] for row in rows} == {""}
    assert all(float(row["mean_runtime_seconds"]) > 0 for row in rows)


def test_a_plot_is_a_page_by_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "c.html"
    assert run(capsys, "--plot", str(page), "--model", "davinci", "--model", "llama-3.1-8b")[0] == 0
    text = page.read_text()
    titles = ("a100-megatron: runtime of 64 output tokens", "h100-predicted: runtime of 64 output tokens")
    assert all(title in text for title in titles)
    assert "davinci" in text
    assert "llama-3.1-8b" in text


def drawn(tables: Tables, stacks: list[str], by: str = "runtime") -> list[Figure]:
    found = compare(tables, stacks, rows_of(tables, stacks), {(512, 64): 1})
    return list(figures(tables, {64: found}, by))


def test_a_plot_draws_what_can_be_told_apart_and_its_table_holds_all() -> None:
    paper, predicted = drawn(TABLES, ["a100-megatron", "h100-predicted"])
    assert paper.y_scale == predicted.y_scale
    for figure, stack in ((paper, "a100-megatron"), (predicted, "h100-predicted")):
        fastest = [each.model for each in compare(TABLES, [stack], rows_of(TABLES, [stack]), {(512, 64): 1})]
        assert [each.label for each in figure.series] == fastest
        assert [each.drawn for each in figure.series] == [n < DRAWN for n in range(len(fastest))]
        looks = [(each.colour or 0) % COLOURS + COLOURS * each.dash for each in figure.series if each.drawn]
        assert len(set(looks)) == DRAWN
        assert f"Drawn are the fastest {DRAWN} of {len(fastest)} models; the table below holds all." in figure.note
    assert "Numbers of another model's measurement (proxies): openai/curie = ai21/j1-large, " in paper.note
    assert predicted.note.endswith("Predicted, not measured.\nBands hold 80%.")
    assert "the cheapest 10 of 19" in drawn(TABLES, ["a100-megatron"], "dollars")[0].note
    assert "Drawn" not in next(figures(TABLES, {1: compare(TABLES, PAPER_STACKS, PAPER_MODELS, {(1, 1): 1})}, "")).note


def test_a_model_looks_the_same_in_every_figure() -> None:
    looks = [
        {each.label: (each.colour, each.dash) for each in figure.series if each.drawn}
        for figure in drawn(TABLES, ["v100-megatron", "a100-megatron"])
    ]
    both = looks[0].keys() & looks[1].keys()
    assert len(both) > 5
    assert all(looks[0][model] == looks[1][model] for model in both)


WRONG: dict[str, tuple[list[str], str]] = {
    "trace and point": (["--trace", "x", "--prompt-tokens", "1"], "give either --trace or --prompt-tokens and "),
    "no trace": (["--trace", "none.csv"], "none.csv: No such file or directory"),
    "no number": (["--output-tokens", "x"], "--output-tokens: expected a whole number of tokens, 0 or more, found 'x'"),
    "no stack": (["--stack", "x"], "unknown stack 'x': there are a100-megatron, v100-megatron, h100-predicted, "),
    "own table": (
        ["--table", "v100-megatron", "--stack", "h100-predicted"],
        "unknown stack 'h100-predicted': there are v100-megatron; --table replaces the shipped ones, --table h100-pre",
    ),
    "price of no stack": (
        ["--dollars-per-hour", "h100-predicted=2"],
        "--dollars-per-hour h100-predicted=2: expected STACK=X, a stack that is compared and dollars: a100-megatron, v",
    ),
    "price alone": (["--dollars-per-hour", "2"], "--dollars-per-hour 2: expected STACK=X, a stack that is compared"),
    "no price": (
        ["--dollars-per-hour", "a100-megatron=-1"],
        "--dollars-per-hour a100-megatron=-1: expected dollars, 0 or more, found '-1'",
    ),
    "price of text": (
        ["--dollars-per-hour", "a100-megatron=$2"],
        "--dollars-per-hour a100-megatron=$2: expected dollars",
    ),
    "no table": (["--table", "none.json"], "none.json: cannot be read: No such file or directory"),
    "near": (["--model", "davinc"], "unknown model 'davinc' on a100-megatron, v100-megatron, h100-predicted: did you"),
    "elsewhere": (
        ["--model", "llama-3.1-8b", "--stack", "a100-megatron"],
        "unknown model 'llama-3.1-8b' on a100-megatron, but h100-predicted has it: --stack h100-predicted",
    ),
    "nowhere": (
        ["--model", "gpt-4o", "--stack", "v100-megatron"],
        "unknown model 'gpt-4o' on v100-megatron: there are openai/davinci, ",
    ),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_clear_line(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"profiler compare: {says}")
    assert err.count("\n") == 1


def test_no_requests_are_not_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("prompt_tokens,output_tokens\n")
    assert run(capsys, "--trace", str(tmp_path / "t.csv"))[2].endswith("t.csv: no requests, only a header\n")
    with pytest.raises(CompareError, match="no requests"):
        compare(TABLES, PAPER_STACKS, PAPER_MODELS, {})
