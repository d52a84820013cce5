"""The parameters of one HTTP request for figures, as the gateway's and the stream worker's paths take them. Pure."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qs

from stream.since import SinceError, since_moment
from stream.summary import KEYS

__all__ = ["Query", "QueryError", "moment"]

_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)


class QueryError(ValueError):
    """A parameter that cannot be used; `str(error)` is one line for whoever asked."""


class Query:
    """Values of a query; raises QueryError, also for a parameter that is not among the known ones."""

    def __init__(self, text: str, known: Sequence[str], stacks: Iterable[str], leading: str, now: float) -> None:
        """Read a query of `known` parameters; `leading` is the stack that is meant where none is named."""
        self._values = {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}
        for name in self._values:
            if name not in known:
                verb = "are" if known[1:] else "is"
                raise QueryError(f"unknown parameter {name[:80]!r}: there {verb} {', '.join(known)}")
        self.now = now
        self.since = self._since()
        self.by = self._by()
        self.named_stack = self._values.get("stack")
        self.stack = leading if self.named_stack is None else self.named_stack
        if self.stack not in (leading, *stacks):
            raise QueryError(f"stack={self.stack[:80]}: expected one of {', '.join(stacks)}")

    def _since(self) -> float | None:
        text = self._values.get("since")
        if text is None:
            return None
        try:
            since = since_moment(text.replace(" ", "+"), self.now)  # a + that was not quoted
        except SinceError as error:
            raise QueryError(f"since={text[:80]}: {error}") from None
        if since > self.now:
            raise QueryError(f"since={text[:80]}: that moment is yet to come (here it is {moment(self.now)})")
        return since

    def _by(self) -> tuple[str, ...]:
        text = self._values.get("by", "")
        names = tuple(dict.fromkeys(text.split(","))) if text else ()
        for name in names:
            if name not in KEYS:
                raise QueryError(f"by={text[:80]}: expected {' or '.join(KEYS)}, or both with a comma between")
        return names

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number."""
        text = self._values.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and least <= int(text[:20]) <= most):
            raise QueryError(f"{name}={text[:80]}: expected a whole number from {least} to {most}")
        return int(text)

    def amount(self, name: str) -> float | None:
        """An amount from 0 on, None where there is none."""
        text = self._values.get(name)
        if text is None:
            return None
        if not _AMOUNT.fullmatch(text):
            raise QueryError(f"{name}={text[:80]}: expected a number from 0 on, such as 1.5")
        return float(text)

    def one_of(self, name: str, numbers: Sequence[int]) -> int:
        """One of some whole numbers, by default the first."""
        text = self._values.get(name, str(numbers[0]))
        found = next((number for number in numbers if str(number) == text), None)
        if found is None:
            raise QueryError(f"{name}={text[:80]}: expected {' or '.join(map(str, numbers))}")
        return found


def moment(seconds: float) -> str:
    """Return seconds since 1970 as answers write them."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
