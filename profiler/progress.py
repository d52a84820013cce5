"""How far a long measurement is: one line on a terminal, drawn again and again; elsewhere a plain line now and then.

No colours, and only ASCII: it reads the same in a terminal, a file and a log. What cannot be written is passed over:
a measurement goes on when its terminal is gone.
"""

import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TextIO

__all__ = ["DurationError", "Progress", "duration", "parse_duration"]

_TERMINAL_PAUSE = 0.1  # seconds between two drawings
_PLAIN_PAUSE = 30.0  # seconds between two lines where there is no terminal
_BAR = 20  # characters
_LEAST_DOING = 12  # characters for what is being done, before the bar gives way
_USUAL_WIDTH = 80
_CLEAR = "\r\x1b[K"  # to the start of the line, and erase it
_UNITS = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile(rf"(?=\d)(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?|{_NUMBER}", re.ASCII)


class DurationError(ValueError):
    """No duration. `str(error)` says what was expected; whoever asked says where (`--budget`)."""


class Progress:
    """A line about something long. Use it as a context manager: the line is gone at the end.

        with Progress("measure") as progress:
            progress.update(0.25, "qwen3-8b, 512 + 64 tokens", left=130)
            progress.say("qwen3-8b: 12 runs")

    `stream` is standard error unless another is given, `clock` gives seconds that never go back.
    """

    def __init__(self, title: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._terminal = _is_terminal(self._stream)
        self._told: tuple[float, str, float | None] | None = None
        # The first drawing is due at once, the first plain line is not: short work needs none.
        self._drawn = clock() - (_TERMINAL_PAUSE if self._terminal else 0.0)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Clear the line."""
        if self._terminal and self._told is not None:
            self._write(_CLEAR)

    def update(self, share: float, doing: str, left: float | None = None) -> None:
        """Say that a share (0 to 1) is done, what is being done, and seconds left where they are known."""
        self._told = min(max(share, 0.0), 1.0), " ".join(doing.split()), left
        now = self._clock()
        if now - self._drawn >= (_TERMINAL_PAUSE if self._terminal else _PLAIN_PAUSE):
            self._drawn = now
            self._draw()

    def say(self, text: str) -> None:
        """Print a line, or several, that stay: above the line of the progress."""
        self._write(f"{_CLEAR if self._terminal else ''}{text}\n")
        if self._terminal:
            self._draw()

    def _draw(self) -> None:
        if self._told is None:
            return
        if self._terminal:
            # One column stays free: a full line would be broken, and what is broken is not cleared.
            self._write(_CLEAR + _line(self._title, *self._told, _width(self._stream) - 1))
        else:
            self._write(_line(self._title, *self._told, None) + "\n")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # closed, or its terminal is gone
            self._stream.write(text)
            self._stream.flush()


def duration(seconds: float) -> str:
    """Seconds as people say them, in the two largest units: 0.4 s, 12 s, 2 min 10 s, 1 h 5 min, 3 d 2 h."""
    if seconds < 0.95:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    parts: list[tuple[int, str]] = []
    for unit, length in _UNITS.items():
        count, rest = divmod(rest, length)
        if parts or count:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count)


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `8m`, `1h30m`, `1.5h`, or of a plain number; DurationError where it is none, or nothing."""
    found = _DURATION.fullmatch(text)
    numbers = (float(each or 0) for each in found.groups()) if found else ()
    seconds = sum(number * length for number, length in zip(numbers, (3600, 60, 1, 1), strict=False))
    if not seconds:
        raise DurationError(f"{text!r} is no duration; give one such as 90s, 8m or 1h30m, or seconds")
    return seconds


def _line(title: str, share: float, doing: str, left: float | None, width: int | None) -> str:
    """All of it where `width` is None; else the bar, what is being done and the title give way, in this order."""
    ending = "" if left is None else f"{duration(left)} left"
    percent = f"{int(share * 100):3d}%"  # 100 % is the end, not nearly the end
    filled = int(share * _BAR)
    bar = f"[{'#' * filled}{'.' * (_BAR - filled)}]"
    if width is None:
        return "  ".join(filter(None, (f"{title} {percent.strip()}", doing, ending)))
    room = width - len("  ".join(filter(None, (f"{title} {percent}", ending)))) - 2
    beside_bar = room - len(bar) - 1
    if beside_bar >= min(len(doing), _LEAST_DOING):
        title, room = f"{title} {bar}", beside_bar
    return "  ".join(filter(None, (f"{title} {percent}", _cut(doing, room), ending)))[: max(width, 0)]


def _cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    return text[: width - 3] + "..." if width > 3 else ""


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def _width(stream: TextIO) -> int:
    """Columns at this moment: a window changes its size."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_WIDTH
    except (OSError, ValueError):
        return _USUAL_WIDTH
