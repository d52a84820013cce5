"""Models compared by the text that they read and write instead of by tokens, which hold more text for some than others.

A text is encoded once in each model's own tokens. To a model with b bytes a token a piece of N bytes is p = N / b
tokens: to read one as a prompt takes T(p, 1), which gives the first output token too, and its forward FLOPs; to reply
to it with as many bytes takes T(p, p) - T(p, 1) more. All is told for a kilobyte (1,000 bytes). The size of a piece
matters, as F does not grow in proportion: it stands for how long prompts and replies are.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from profiler.compare import Compared, compare, ranked
from profiler.compare_text import comparison_notes, line
from profiler.tokenizers import called, counter
from stream.coefficients import Tables

__all__ = [
    "Encoded",
    "TextError",
    "Weighed",
    "encode",
    "read_text",
    "record",
    "tokens_text",
    "weigh",
    "write_tokens_csv",
]

_KILOBYTE = 1000
_GIGA = 1e9
_HEADS = ("bytes/token", "read: s", "GFLOP", "written: s", "GFLOP", "both: s", "n", "rank", "$/1,000 kB", "rank")


class TextError(ValueError):
    """A text that cannot be used. One line: the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text in a model's tokens, by the `tokenizer` that gave them."""

    tokenizer: str
    bytes: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Weighed:
    """One model on one stack, that reads a piece of text and writes as much; ranks are among models on the stack.

    `compared` is of both together, `first_seconds` and `first_flops` of reading it alone; FLOPs are None where the
    table does not tell. `piece` is in bytes, `tokens` those of a piece.
    """

    compared: Compared
    text: Encoded
    piece: int
    tokens: int
    first_seconds: float
    first_flops: float | None
    flops: float | None


def read_text(path: Path) -> str:
    """The text of a file; raise TextError where there is none, OSError where it cannot be read."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(f"{path}: byte {error.start}: expected UTF-8 text") from None
    if not text:
        raise TextError(f"{path}: is empty: there is nothing to read or write")
    return text


def encode(text: str, tokenizers: Mapping[str, str]) -> dict[str, Encoded]:
    """The text in the tokens of each model, by its tokenizer (`profiler.tokenizers`); each is read and asked once."""
    size = len(text.encode())
    tokens = {source: counter(source)(text) for source in dict.fromkeys(tokenizers.values())}
    return {model: Encoded(called(source), size, tokens[source]) for model, source in tokenizers.items()}


def weigh(tables: Tables, stacks: Sequence[str], texts: Mapping[str, Encoded], piece: int) -> tuple[Weighed, ...]:
    """Every model (a row or an alias) on every stack that has it, a stack after the other, the fastest first.

    A piece is `piece` bytes, or the whole text. Raises CompareError for a model that none of the stacks has.
    """
    tokens = {model: _tokens(text, piece) for model, text in texts.items()}
    found = [each for model, p in tokens.items() for each in compare(tables, stacks, [model], {(p, p): 1})]
    by_stack = (ranked([each for each in found if each.stack == stack]) for stack in stacks)
    return tuple(
        _weighed(tables, each, texts[each.model], piece, tokens[each.model]) for here in by_stack for each in here
    )


def _tokens(text: Encoded, piece: int) -> int:
    return max(round(text.tokens * min(piece, text.bytes) / text.bytes), 1)


def _weighed(tables: Tables, compared: Compared, text: Encoded, piece: int, tokens: int) -> Weighed:
    row = tables.stacks[compared.stack].rows[compared.row]
    costs = tables.costs(compared.stack, row)
    first, whole = (None if costs is None else costs.flops(tokens, output, 1) for output in (1, tokens))
    seconds = tables.runtime(compared.stack, row)(tokens, 1)
    return Weighed(compared, text, min(piece, text.bytes), tokens, seconds, first, whole)


def record(each: Weighed) -> dict[str, Any]:
    """The same for programs, for a kilobyte read, written, or both: seconds, FLOPs, dollars; None where unknown."""
    compared, share = each.compared, _KILOBYTE / each.piece

    def per(value: float | None, less: float | None = 0.0) -> float | None:
        return None if value is None or less is None else (value - less) * share

    return {
        "model": compared.model,
        "stack": compared.stack,
        "row": compared.row,
        "provenance": compared.provenance,
        "proxy_of": compared.proxy_of,
        "accelerators": compared.accelerators,
        "tokenizer": each.text.tokenizer,
        "tokens_per_byte": each.text.tokens / each.text.bytes,
        "prompt_tokens": each.tokens,
        "output_tokens": each.tokens,
        "read_seconds_per_kilobyte": per(each.first_seconds),
        "written_seconds_per_kilobyte": per(compared.mean_runtime_seconds, each.first_seconds),
        "seconds_per_kilobyte": per(compared.mean_runtime_seconds),
        "low_seconds_per_kilobyte": per(compared.low_seconds),
        "high_seconds_per_kilobyte": per(compared.high_seconds),
        "interval_level": compared.interval_level,
        "read_flops_per_kilobyte": per(each.first_flops),
        "written_flops_per_kilobyte": per(each.flops, each.first_flops),
        "dollars_per_kilobyte": per(compared.mean_dollars),
        "energy_joules_per_kilobyte": per(compared.mean_energy_joules),
        "runtime_rank": compared.runtime_rank,
        "dollars_rank": compared.dollars_rank,
        "extrapolated": compared.extrapolated,
    }


def write_tokens_csv(out: TextIO, weighed: Sequence[Weighed]) -> None:
    """A line a model and stack."""
    records = [record(each) for each in weighed]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(records[0])
    writer.writerows(["" if cell is None else cell for cell in each.values()] for each in records)


def tokens_text(tables: Tables, described: str, stacks: Sequence[str], weighed: Sequence[Weighed]) -> str:
    """A table a stack, and what to know of the numbers."""
    parts = [described]
    for stack in stacks:
        here = [each for each in weighed if each.compared.stack == stack]
        rows = [[stack, *_HEADS], *([each.compared.model, *_cells(record(each))] for each in here)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        parts.append("\n".join(line(row, widths) for row in rows))
    notes = comparison_notes(tables, stacks, [each.compared for each in weighed])
    return "\n\n".join([*parts, "\n".join(notes)]).rstrip()


def _cells(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"{1 / told['tokens_per_byte']:.2f}"
    for done in ("read", "written"):
        flops = told[f"{done}_flops_per_kilobyte"]
        yield f"{told[f'{done}_seconds_per_kilobyte']:.3f}"
        yield "-" if flops is None else f"{flops / _GIGA:,.0f}"
    low, high = told["low_seconds_per_kilobyte"], told["high_seconds_per_kilobyte"]
    band = "" if low is None or high is None else f" ({low:.3f}-{high:.3f})"
    yield f"{told['seconds_per_kilobyte']:.3f}{band}"
    dollars = told["dollars_per_kilobyte"]
    yield str(told["accelerators"] or "-")
    yield str(told["runtime_rank"])
    yield "-" if dollars is None else f"{_KILOBYTE * dollars:.3f}"
    yield str(told["dollars_rank"] or "")
