"""`profiler compare`: models and stacks side by side, ranked by idealized runtime and by dollars."""

import argparse
import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from profiler.compare import (
    PAPER_MODELS,
    PAPER_STACKS,
    Compared,
    CompareError,
    Requests,
    compare,
    price_of,
    priced,
    rows_of,
)
from profiler.compare_text import comparison_text
from profiler.request_rows import whole_number
from profiler.shipped import shipped_stacks, table_file
from profiler.trace import read_trace
from stream.coefficients import Tables, load_tables
from stream.command import UsageError
from stream.constants import Constant
from stream.runtime import INTERPOLATIONS
from stream.table_format import Stack, read_table

__all__ = ["Asked", "add"]

_PROMPT, _OUTPUT = 512, 64
_PIECE = 2000  # bytes: some 500 tokens

_DESCRIPTION = f"""\
Compare models and stacks: the mean idealized runtime of the same requests, and what they cost where it is known on
how many accelerators a model runs (n) and what one costs an hour (T x n x dollars / 3600), ranked on each stack. An
hour's price is that of --dollars-per-hour, else of --constants, else the table's, else the shipped one of the device:
as events are counted. --json and --csv tell joules too.

The requests are those of a --trace, a CSV file with the columns prompt_tokens and output_tokens (or
completion_tokens), or ContextTokens and GeneratedTokens (Azure's), or every pair of --prompt-tokens and
--output-tokens (default: {_PROMPT} and {_OUTPUT}), each compared by itself.

Without --model, --stack and --table: the paper's ten models on A100 and V100; else all rows of the stacks.

With --text models are compared by text instead of tokens, each with its own tokenizer: what a kilobyte (1,000 bytes)
takes to read and to write, in prompts and replies of --piece bytes. Models are those of --model, or all whose
tokenizers are at hand: given by --tokenizer, or in the local Hugging Face cache. Nothing is fetched."""

_EXAMPLES = """\
examples:
  profiler compare --prompt-tokens 512 --output-tokens 64
  profiler compare --trace requests.csv --sort dollars
  profiler compare --stack h100-predicted --dollars-per-hour h100-predicted=2.5 --sort dollars
  profiler compare --table mine.json --table h100-predicted
  profiler compare --stack h100-predicted --model llama-3.1-70b --model qwen2.5-72b --prompt-tokens 512 4096 --json
  profiler compare --text book.txt --tokenizer qwen3-8b=models/qwen3-8b --tokenizer gpt-oss-20b=o200k_harmony"""


@dataclass(frozen=True, slots=True)
class Asked:
    """The requests of one comparison, and how to say them: `described` for people, `point` for programs."""

    requests: Requests
    described: str
    point: dict[str, Any]


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="models and stacks side by side, ranked by runtime and dollars",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    command.add_argument("--prompt-tokens", nargs="+", metavar="P", help="tokens of the prompt, one or several")
    command.add_argument("--output-tokens", nargs="+", metavar="O", help="tokens of the output, one or several")
    command.add_argument("--trace", type=Path, metavar="FILE", help="the requests of a CSV file instead")
    command.add_argument(
        "--text", type=Path, metavar="FILE", help="compare by a text, in UTF-8, in each model's tokens"
    )
    command.add_argument("--piece", metavar="BYTES", help=f"bytes of a prompt, and of a reply (default: {_PIECE:,})")
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME"}
    command.add_argument("--model", **several, help="a row or an alias of one; may be repeated")
    command.add_argument("--stack", **several, help="may be repeated")
    table = {**several, "metavar": "FILE"}
    command.add_argument("--table", **table, help="a table (or shipped stack) in place of the shipped ones; repeatable")
    price = {**several, "metavar": "STACK=X"}
    command.add_argument(
        "--dollars-per-hour", **price, help="what one accelerator of a stack costs an hour; repeatable"
    )
    command.add_argument("--constants", type=Path, metavar="FILE", help="prices and power of accelerators of one's own")
    command.add_argument(
        "--interpolation", choices=INTERPOLATIONS, default="linear", help="how F(p) runs between profiled prompt sizes"
    )
    command.add_argument("--sort", choices=("runtime", "dollars"), default="runtime", help="by which of the two")
    tokenizer = {**several, "metavar": "MODEL=PATH"}
    command.add_argument(
        "--tokenizer", **tokenizer, help="its tokenizer.json or a directory with it, or a tiktoken encoding; repeatable"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="a line a model and stack, as CSV")
    form.add_argument("--json", action="store_true", help="the same as JSON")
    command.add_argument("--plot", type=Path, metavar="FILE.html", help="T over prompt tokens too, as a page")
    command.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    if options.text is not None:
        return _compare_by_text(options)
    for_text = ("--piece", options.piece), ("--tokenizer", options.tokenizer)
    if given := [name for name, value in for_text if value]:
        raise UsageError(f"{given[0]} is for --text FILE")
    asked = _asked(options)
    tables = _tables(options)
    stacks, models = _chosen(options, tables)
    tables = priced(tables, _prices(options.dollars_per_hour, stacks))
    found = [(each, _sorted(compare(tables, stacks, models, each.requests), options.sort)) for each in asked]
    if options.csv:
        _write_csv(found)
    elif options.json:
        print(json.dumps(_as_json(options, tables, stacks, found), indent=1))
    else:
        parts = [comparison_text(tables, each.described, stacks, compared) for each, compared in found]
        print("\n\n".join([*parts, *_more_rows(options, tables, models)]))
    if options.plot:
        from profiler.compare_plot import figures
        from profiler.plot import write_page

        by_output = {each.point["output_tokens"]: compared for each, compared in reversed(found)}
        in_order = {output: by_output[output] for output in sorted(by_output)}
        write_page(options.plot, figures(tables, in_order, options.sort), "Models and stacks")
    return 0


def _compare_by_text(options: argparse.Namespace) -> int:
    from profiler.compare_tokens import Weighed, encode, read_text, record, tokens_text, weigh, write_tokens_csv
    from profiler.tokenizers import tokenizers_of

    for other in ("trace", "prompt_tokens", "output_tokens", "plot"):
        if getattr(options, other):
            raise UsageError(f"give either --text or --{other.replace('_', '-')}, not both")
    [piece] = _counts("--piece", [options.piece or str(_PIECE)])
    if not piece:
        raise UsageError("--piece: expected bytes, 1 or more, found 0")
    tables = _tables(options)
    among = [name for name in tables.stacks if not options.stack or name in options.stack]
    tokenizers = tokenizers_of(tables, among, options.model, options.tokenizer)
    encoded = encode(read_text(options.text), tokenizers)
    stacks, _ = _chosen(argparse.Namespace(**{**vars(options), "model": list(encoded)}), tables)
    tables = priced(tables, _prices(options.dollars_per_hour, stacks))
    weighed: Sequence[Weighed] = weigh(tables, stacks, encoded, piece)
    order = [(each.stack, each.model) for each in _sorted([each.compared for each in weighed], options.sort)]
    weighed = sorted(weighed, key=lambda each: order.index((each.compared.stack, each.compared.model)))
    size = weighed[0].text.bytes
    if options.csv:
        write_tokens_csv(sys.stdout, weighed)
    elif options.json:
        told = {"text": str(options.text), "bytes": size, "piece_bytes": min(piece, size)}
        head = {**told, "table_version": tables.version, "stacks": _stacks_json(tables, stacks)}
        print(json.dumps({**head, "rows": [record(each) for each in weighed]}, indent=1))
    else:
        pieces = f"in prompts and replies of {min(piece, size):,} bytes"
        print(tokens_text(tables, f"{options.text}: {size:,} bytes; for a kilobyte of it, {pieces}", stacks, weighed))
    return 0


def _asked(options: argparse.Namespace) -> list[Asked]:
    if options.trace is None:
        prompts = _counts("--prompt-tokens", options.prompt_tokens or [str(_PROMPT)])
        outputs = _counts("--output-tokens", options.output_tokens or [str(_OUTPUT)])
        return [_point(prompt, output) for prompt, output in product(prompts, outputs)]
    if options.prompt_tokens or options.output_tokens:
        raise UsageError("give either --trace or --prompt-tokens and --output-tokens, not both")
    requests = read_trace(options.trace)
    count = sum(requests.values())
    if not count:
        raise CompareError(f"{options.trace}: no requests, only a header")
    prompt, output = (sum(point[place] * times for point, times in requests.items()) / count for place in (0, 1))
    described = (
        f"{count:,} requests of {options.trace}, on average {prompt:,.0f} prompt and {output:,.0f} output tokens"
    )
    return [Asked(requests, described, {"prompt_tokens": prompt, "output_tokens": output, "requests": count})]


def _point(prompt: int, output: int) -> Asked:
    described = f"{prompt:,} prompt tokens, {output:,} output tokens"
    return Asked({(prompt, output): 1}, described, {"prompt_tokens": prompt, "output_tokens": output, "requests": 1})


def _counts(option: str, texts: Sequence[str]) -> list[int]:
    try:
        return list(dict.fromkeys(whole_number(text) for text in texts))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _tables(options: argparse.Namespace) -> Tables:
    paths = [table_file(each) for each in options.table]
    # A stack must lead, whichever: all that are compared are asked by name.
    first = read_table(paths[0]).stacks[0].name if paths else None
    return load_tables(
        paths,
        stack=first or None,
        interpolation=options.interpolation,
        any_kind=True,
        constants=options.constants,
    )


def _chosen(options: argparse.Namespace, tables: Tables) -> tuple[Sequence[str], Sequence[str]]:
    unknown = [name for name in options.stack if name not in tables.stacks]
    if unknown:
        replaced = options.table and unknown[0] in shipped_stacks()
        hint = f"; --table replaces the shipped ones, --table {unknown[0]} adds it" if replaced else ""
        raise UsageError(f"unknown stack {unknown[0]!r}: there are {', '.join(tables.stacks)}{hint}")
    stacks = list(dict.fromkeys(options.stack)) or _default_stacks(options, tables)
    if options.model:
        return stacks, list(dict.fromkeys(options.model))
    if not options.table and not options.stack:
        return stacks, PAPER_MODELS
    return stacks, rows_of(tables, stacks)


def _prices(given: Sequence[str], stacks: Sequence[str]) -> dict[str, float]:
    """--dollars-per-hour STACK=X, of stacks that are compared; the last of one stack counts."""
    prices = {}
    for text in given:
        stack, _, number = text.rpartition("=")
        if stack not in stacks:
            among = f"expected STACK=X, a stack that is compared and dollars: {', '.join(stacks)}"
            raise UsageError(f"--dollars-per-hour {text}: {among}")
        prices[stack] = _dollars(text, number)
    return prices


def _dollars(text: str, number: str) -> float:
    try:
        dollars = float(number)
    except ValueError:
        dollars = math.nan
    if not (math.isfinite(dollars) and dollars >= 0):
        raise UsageError(f"--dollars-per-hour {text}: expected dollars, 0 or more, found {number!r}")
    return dollars


def _more_rows(options: argparse.Namespace, tables: Tables, models: Sequence[str]) -> list[str]:
    """Without any choice: how many rows the shipped stacks have besides those compared, and how to see them."""
    if options.model or options.stack or options.table:
        return []
    shown = {name: set(models) if name in PAPER_STACKS else set() for name in tables.stacks}
    more = {name: sum(row not in shown[name] for row in stack.rows) for name, stack in tables.stacks.items()}
    listed = (f"{count} of {name} (--stack {name})" for name, count in more.items() if count)
    return [f"rows not shown: {', '.join(listed)}"]


def _default_stacks(options: argparse.Namespace, tables: Tables) -> Sequence[str]:
    if options.table:
        return list(tables.stacks)
    if not options.model:
        return PAPER_STACKS
    has_one = [name for name in tables.references if any(tables.row(name, model) for model in options.model)]
    return has_one or tables.references


def _sorted(compared: Sequence[Compared], by: str) -> list[Compared]:
    stacks = list(dict.fromkeys(each.stack for each in compared))

    def key(each: Compared) -> tuple[int, float, float]:
        dollars = float("inf") if each.mean_dollars is None else each.mean_dollars
        first = dollars if by == "dollars" else each.mean_runtime_seconds
        return stacks.index(each.stack), first, each.mean_runtime_seconds

    return sorted(compared, key=key)


def _write_csv(found: Sequence[tuple[Asked, Sequence[Compared]]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*found[0][0].point, *(field.name for field in fields(Compared))])
    for asked, compared in found:
        for each in compared:
            writer.writerow([*asked.point.values(), *("" if cell is None else cell for cell in asdict(each).values())])


def _as_json(
    options: argparse.Namespace,
    tables: Tables,
    stacks: Sequence[str],
    found: Sequence[tuple[Asked, Sequence[Compared]]],
) -> dict[str, Any]:
    comparisons = [{**asked.point, "rows": [asdict(each) for each in compared]} for asked, compared in found]
    trace = {"trace": str(options.trace)} if options.trace else {}
    return {
        **trace,
        "table_version": tables.version,
        "stacks": _stacks_json(tables, stacks),
        "comparisons": comparisons,
    }


def _stacks_json(tables: Tables, stacks: Sequence[str]) -> dict[str, Any]:
    return {name: _stack_json(tables.stacks[name], price_of(tables, name)) for name in stacks}


def _stack_json(stack: Stack, price: Constant | None) -> dict[str, Any]:
    return {
        "hardware": stack.hardware,
        "source": stack.source,
        "dollars_per_accelerator_hour": None if price is None else price.value,
        "dollars_range": None if price is None else [price.low, price.high],
        "dollars_source": None if price is None else price.source,
    }
