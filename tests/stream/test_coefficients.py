"""Tables: what is shipped, what is read, how several go together, and every way to be wrong."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream.coefficients import TableError, load_tables, tables_from_json, tables_to_json
from stream.enrich import enrich
from stream.events import RequestEvent
from stream.table_format import parse_table, stack_to_json

GOLDEN = Path(__file__).parents[1] / "golden"
SHIPPED_ALIASES = Path(__file__).parents[2] / "stream" / "tables" / "aliases.json"
MEASURED = ("a100-megatron", "v100-megatron")
REFERENCES = (*MEASURED, "h100-predicted")


def row(seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"runtime_per_output_token": 0.5, "runtime_for_prompt_tokens": {"1": seconds}, **more}


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize(("stack", "golden"), [("a100-megatron", "idealized"), ("api-2022", "denoised")])
def test_the_shipped_tables_are_the_published_ones(stack: str, golden: str) -> None:
    published = parse_table((GOLDEN / f"helm_{golden}_table.json").read_bytes(), golden).stacks[0].rows
    shipped = load_tables().stacks[stack].rows
    assert {name: r.coefficients for name, r in shipped.items()} == {
        name: r.coefficients for name, r in published.items()
    }


def test_the_shipped_tables_say_where_they_come_from() -> None:
    tables = load_tables()
    assert tables.references == REFERENCES
    for stack in tables.stacks.values():
        assert all((stack.hardware, stack.software, stack.date, stack.source))
        kind = "predicted" if stack.name == "h100-predicted" else "measured"
        assert {r.provenance for r in stack.rows.values()} == {kind}
    for name in MEASURED:
        rows = tables.stacks[name].rows
        proxies = {r.name: r.proxy_of for r in rows.values() if r.proxy_of}
        assert proxies == {
            "openai/curie": "ai21/j1-large",
            "microsoft/TNLGv2_7B": "ai21/j1-large",
            "together/opt-175b": "openai/davinci",
            "cohere/xlarge-20220609": "anthropic/stanford-online-all-v4-s3",
        }
        assert all(rows[proxy].coefficients == rows[of].coefficients for proxy, of in proxies.items())


def test_every_shipped_alias_has_its_row() -> None:
    tables = load_tables()
    shipped = json.loads(SHIPPED_ALIASES.read_bytes())["aliases"]
    assert tables.aliases == shipped
    for alias, target in tables.aliases.items():
        assert not [stack for stack in tables.references if alias in tables.stacks[stack].rows]
        found = {row.name for stack in tables.references if (row := tables.row(stack, alias))}
        assert found == {target}


def test_the_first_name_with_a_row_counts_by_itself_and_then_by_alias() -> None:
    tables = load_tables(aliases={"mine": "openai/curie", "openai/davinci": "openai/curie", "my-llama": "llama3.1"})

    def found(*names: str | None) -> str | None:
        row = tables.row("a100-megatron", *names)
        return row.name if row else None

    assert found(None, "nothing", "mine", "davinci") == "openai/curie"
    assert found("openai/davinci", "mine") == "openai/davinci", "a row's own name goes before aliases"
    assert found("j1-jumbo") == "ai21/j1-jumbo"
    assert tables.aliases["my-llama"] == "meta-llama/llama-3.1-8b", "an alias of an alias is one of its row"
    assert found(None, "", "gpt-4o") is None


def test_an_assumed_row_is_taken_only_where_no_name_has_its_own() -> None:
    tables = load_tables(assume={"gpt-4o": "curie", "openai/davinci": "bloom", "mine": "openai/curie", "o1": "davinci"})

    def found(*names: str | None, stack: str = "a100-megatron") -> tuple[str, str] | None:
        row = tables.row(stack, *names)
        return (row.name, row.provenance) if row else None

    assert found("gpt-4o") == ("openai/curie", "assumed")
    assert [found("gpt-4o", "o1"), found("o1", "gpt-4o")] == [
        (f"openai/{name}", "assumed") for name in ("curie", "davinci")
    ]
    assert found(None, "gpt-4o", "bloom") == ("together/bloom", "measured"), "another name has a row of its own"
    assert found("openai/davinci") == ("openai/davinci", "measured")
    assert found("mine", stack="v100-megatron") == ("openai/curie", "assumed")
    assert found("gpt-4", None) is None
    measured = [tables.measured(name) for name in ("gpt-4o", "openai/davinci", "davinci")]
    assert [row and row.name for row in measured] == [None, "openai/davinci", "openai/davinci"]


def test_a_model_may_be_assumed_on_those_stacks_that_have_the_row(tmp_path: Path) -> None:
    stacks = {"a": {"models": {"x": row()}}, "b": {"models": {"y": row()}}, "c": {"models": {"z": row()}}}
    tables = load_tables([write(tmp_path, "t.json", {"stacks": stacks})], stack="a", assume={"m": "y", "x": "z"})
    assert tables.row("a", "m") is None
    assert (found := tables.row("b", "m")) is not None
    assert found.provenance == "assumed"
    assert [(found.name, found.provenance) for found in (tables.row("a", "x"), tables.row("c", "x")) if found] == [
        ("x", "measured"), ("z", "assumed"),
    ]  # fmt: skip


def test_what_is_assumed_shows_in_events() -> None:
    tables = load_tables(assume={"gpt-4o": "davinci"})
    made = RequestEvent(model="gpt-4o", prompt_tokens=500, completion_tokens=21, duration_seconds=9.0)
    assumed, own = (enrich(each, tables) for each in (made, msgspec.structs.replace(made, model="davinci")))
    assert (assumed.table_row, assumed.provenance, assumed.coverage) == ("openai/davinci", "assumed", "covered")
    assert own.provenance == "measured"
    assert assumed.idealized_runtime_seconds == own.idealized_runtime_seconds
    assert assumed.stacks["v100-megatron"].provenance == "assumed"


def test_tables_given_replace_the_shipped_ones(tmp_path: Path) -> None:
    tables = load_tables([write(tmp_path, "mine.json", {"gpt": row()})])
    assert (tables.reference, tables.references, list(tables.stacks)) == ("mine", ("mine",), ["mine"])
    assert load_tables([tmp_path / "mine.json"], stack="h100").reference == "h100"


def test_of_several_tables_the_later_wins_per_model(tmp_path: Path) -> None:
    first = write(tmp_path, "first.json", {"a": row(1), "b": row(1)})
    second = write(tmp_path, "second.json", {"models": {"b": row(2), "c": row(2)}, "hardware": "H100"})
    for stack in (None, "s"):
        tables = load_tables([first, second], stack=stack)
        assert tables.references == (stack or "first",)
        rows = tables.stacks[tables.reference].rows
        assert {name: r.coefficients.prompt_seconds for name, r in rows.items()} == {
            "a": (1.0,),
            "b": (2.0,),
            "c": (2.0,),
        }


def test_rows_without_a_stack_go_to_the_leading_one(tmp_path: Path) -> None:
    named = {"format": 1, "stacks": {"x": {"models": {"a": row(1)}, "hardware": "X"}}}
    paths = [write(tmp_path, "named.json", named), write(tmp_path, "bare.json", {"a": row(2)})]
    tables = load_tables(paths)
    assert list(tables.stacks) == ["x"]
    assert tables.stacks["x"].hardware == "X"
    assert tables.stacks["x"].rows["a"].coefficients.prompt_seconds == (2.0,)


def test_wrappers_and_models_of_the_same_name_are_told_apart() -> None:
    for name in ("models", "stacks"):
        assert list(parse_table(json.dumps({name: row()}).encode(), "f").stacks[0].rows) == [name]


def fit(**more: Any) -> dict[str, Any]:
    errors = {"median_error": 0.01, "p95_error": 0.03, "max_error": 0.08}
    return {"method": "paper", "points": 270, "r2": 0.99, **errors, **more}


def test_tables_are_kept_and_read_again(tmp_path: Path) -> None:
    rich = row(
        overhead=0.1,
        context_seconds_per_token2=1e-6,
        quadratic=[0, 1e-4, 0.0],
        provenance="predicted",
        proxy_of="b",
        fit_error=0.03,
        intervals={"overhead": [0, 1]},
        note="n",
        fit=fit(),
        accelerators=8,
    )
    content = {"models": {"a": rich}, "date": "2024", "dollars_per_accelerator_hour": 4.096}
    path = write(tmp_path, "mine.json", content)
    mine = load_tables([path], interpolation="helm", aliases={"x": "a"}, assume={"y": "x"})
    for tables in (load_tables(), mine):
        kept = tables_to_json(tables)
        assert tables_from_json(kept) == tables
        assert tables_from_json(kept).version == tables.version
        again = load_tables([write(tmp_path, "kept.json", kept)])
        assert {name: stack_to_json(s) for name, s in again.stacks.items()} == {
            name: stack_to_json(s) for name, s in tables.stacks.items()
        }


def test_the_version_changes_with_all_that_decides_a_runtime(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.json", {"gpt": row()})
    versions = [
        load_tables().version,
        load_tables(interpolation="helm").version,
        load_tables(aliases={"x": "openai/ada"}).version,
        load_tables(assume={"x": "openai/ada"}).version,
        load_tables(assume={"x": "ada"}).version,
        load_tables([path]).version,
        load_tables([path], stack="s").version,
    ]
    assert len(set(versions)) == len(versions)
    assert load_tables().version == versions[0]


NUMBER = "a number, 0 or more, found"
WRONG: list[tuple[Any, str]] = [
    (b"{", ": line 1, column 2: not valid JSON: Expecting property name enclosed in double quotes"),
    (b'{\n"a" 1}', ": line 2, column 5: not valid JSON: Expecting ':' delimiter"),
    (b"\xff", ": byte 0: expected UTF-8 text"),
    (b"[" * 100_000, ": nested too deeply"),
    (b'{"a":{"runtime_per_output_token":NaN}}', ": expected numbers that are finite, found NaN"),
    (b'{"a":1,"a":2}', ': expected every key of an object once, found "a" again'),
    ([], ": $: expected an object, found an array"),
    ({}, ": $: expected at least one model"),
    ({"format": 2, "stacks": {}}, ": $.format: expected 1, the only format this program reads, found 2"),
    ({"format": 1}, ": $.stacks: expected an object, found nothing"),
    ({"stacks": {}}, ": $.stacks: expected at least one stack"),
    ({"stacks": {"": {"models": {"a": row()}}}}, ": $.stacks: expected a name for every stack"),
    ({"stacks": {"x y": {"models": {}}}}, ': $.stacks["x y"].models: expected at least one model'),
    (
        {"stacks": {"x": {"model": {}}}},
        ": $.stacks.x.model: expected one of the keys accelerator, date, dollars_per_accelerator_hour, hardware,",
    ),
    ({"models": {"a": row()}, "hardware": 7}, ": $.hardware: expected text, found 7"),
    ({"models": {"a": row()}, "kind": "x"}, ': $.kind: expected one of reference, denoised, found "x"'),
    ({"models": []}, ": $.models: expected an object, found an array"),
    ({"a": 7}, ": $.a: expected an object, found 7"),
    ({"a": {}}, ": $.a.runtime_for_prompt_tokens: expected an object, found nothing"),
    (
        {"a": row(overheads=1)},
        ": $.a.overheads: expected one of the keys accelerators, context_seconds_per_token2, fit, fit_error,",
    ),
    ({"a": row(-1)}, f": $.a.runtime_for_prompt_tokens.1: expected {NUMBER} -1"),
    ({"a": row(overhead=True)}, f": $.a.overhead: expected {NUMBER} true"),
    ({"a": row(overhead="1" * 90)}, f': $.a.overhead: expected {NUMBER} "1111'),
    ({"a": row(overhead=10**400)}, f": $.a.overhead: expected {NUMBER} 1000"),
    (b'{"a":{"runtime_for_prompt_tokens":{"1":1e999}}}', f"expected {NUMBER} Infinity"),
    ({"a": row(runtime_per_output_token=None)}, f": $.a.runtime_per_output_token: expected {NUMBER} nothing"),
    (
        {"a": row(runtime_for_prompt_tokens={})},
        ": $.a.runtime_for_prompt_tokens: expected at least one prompt",
    ),
    (
        {"models": {"gpt": row(runtime_for_prompt_tokens={"12a": 1})}},
        ": $.models.gpt.runtime_for_prompt_tokens.12a: expected a whole number of tokens, 1 or more, as key",
    ),
    (
        {"a": row(runtime_for_prompt_tokens={"0": 1})},
        "tokens.0: expected a whole number of tokens, 1 or more",
    ),
    ({"a": row(quadratic=[1, 2])}, ": $.a.quadratic: expected three numbers [a, b, c], found an array"),
    ({"a": row(provenance="guessed")}, "expected one of measured, predicted, assumed, found"),
    ({"a": row(intervals=1)}, ": $.a.intervals: expected an object, found 1"),
    ({"a": row(fit=1)}, ": $.a.fit: expected an object, found 1"),
    ({"a": row(fit=fit(p50=1))}, ": $.a.fit.p50: expected one of the keys max_error, median_error, method, p95_error,"),
    ({"a": row(fit=fit(method=None))}, ": $.a.fit.method: expected the name of a method"),
    ({"a": row(fit=fit(points=0))}, ": $.a.fit.points: expected a whole number, 1 or more, found 0"),
    ({"a": row(fit=fit(r2=1.5))}, ": $.a.fit.r2: expected a number, 1 or less, found 1.5"),
    ({"a": row(fit=fit(p95_error=-1))}, f": $.a.fit.p95_error: expected {NUMBER} -1"),
    ({"a": row(accelerators=1.5)}, ": $.a.accelerators: expected a whole number, 1 or more, found 1.5"),
    ({"a": row(accelerators=True)}, ": $.a.accelerators: expected a whole number, 1 or more, found true"),
    (
        {"models": {"a": row()}, "dollars_per_accelerator_hour": "4"},
        f': $.dollars_per_accelerator_hour: expected {NUMBER} "4"',
    ),
]


@pytest.mark.parametrize(("content", "expected"), WRONG, ids=[expected[:60] for _, expected in WRONG])
def test_a_malformed_table_is_one_clear_line(tmp_path: Path, content: Any, expected: str) -> None:
    path = write(tmp_path, "tables.json", content)
    with pytest.raises(TableError, match=re.escape(expected)) as caught:
        load_tables([path])
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_wrong_questions_are_one_clear_line(tmp_path: Path) -> None:
    two = {"stacks": {"x": {"models": {"a": row()}}, "y": {"models": {"a": row()}}}}
    path = write(tmp_path, "two.json", two)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("missing.json: cannot be read: No such file or directory", {"paths": [tmp_path / "missing.json"]}),
        ("is a directory; expected a coefficient table", {"paths": [tmp_path]}),
        ("unknown stack 'z': there are x, y", {"paths": [path], "stack": "z"}),
        (
            "unknown stack 'h100-predicted': there are x, y; tables given replace the shipped ones: give h100-predicted",
            {"paths": [path], "stack": "h100-predicted"},
        ),
        ("several stacks, choose the leading one (--stack, or stack in a configuration): x, y", {"paths": [path]}),
        (
            "stack 'api-2022' is denoised, which is never a reference: choose one of a100",
            {"stack": "api-2022"},
        ),
        ("alias 'x': no table has a row or alias 'y'", {"aliases": {"x": "y"}}),
        (
            "alias 'x': no table has a row or alias 'openai/davincy'; there are openai/davinci",
            {"aliases": {"x": "openai/davincy"}},
        ),
        ("assume 'x': no table has a row or alias 'y'", {"assume": {"x": "y"}}),
        ("assume 'x': no table has a row or alias 'davincy'; there are davinci", {"assume": {"x": "davincy"}}),
        ("interpolation: expected linear or helm, found 'cubic'", {"interpolation": "cubic"}),
    ]
    for expected, question in cases:
        with pytest.raises(TableError, match=re.escape(expected)):
            load_tables(**question)


def test_a_shipped_stack_is_a_table_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = write(tmp_path, "own.json", {"stacks": {"x": {"models": {"a": row()}}}})
    tables = load_tables([own, Path("h100-predicted")], stack="h100-predicted")
    assert list(tables.stacks) == ["x", "h100-predicted"]
    assert tables.stacks["h100-predicted"].rows == load_tables().stacks["h100-predicted"].rows
    write(tmp_path, "h100-predicted", {"a": row()})
    assert list(load_tables([Path("h100-predicted")]).stacks["h100-predicted"].rows) == ["a"], "a file goes before"


def test_a_denoised_stack_can_be_asked_but_never_referred_to() -> None:
    tables = load_tables(stack="api-2022", any_kind=True)
    assert tables.reference == "api-2022"
    assert tables.references == REFERENCES


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reference", "z"),
        ("interpolation", "cubic"),
        ("aliases", [1]),
        ("aliases", {"a": 1}),
        ("assume", {"a": 1}),
    ],
)
def test_kept_tables_that_were_damaged_are_refused(key: str, value: Any) -> None:
    kept = json.loads(tables_to_json(load_tables()))
    with pytest.raises(TableError, match=re.escape(f"kept.json: $.{key}: expected")):
        tables_from_json(json.dumps({**kept, key: value}).encode(), "kept.json")


def test_near_names() -> None:
    tables = load_tables()
    assert tables.near("a100-megatron", "Davinci") == ["davinci", "openai/davinci"]
    assert tables.near("a100-megatron", "gpt-4o") == []
    assert tables.near("a100-megatron", "Llama-3.1-8B-instruct") == []
    assert tables.near(None, "Llama-3.1-8B-instruct")[0] == "llama-3.1-8b-instruct"
