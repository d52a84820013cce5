"""The line of a long measurement: on a terminal, in a log, and with nobody listening."""

import fcntl
import io
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.progress import DurationError, Progress, duration, parse_duration

CLEAR = "\r\x1b[K"
END = "\0"


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A real terminal of some width; what was written to it, and what can be read on it at the end."""

    def __init__(self, width: int) -> None:
        self._reader, writer = pty.openpty()
        settings = termios.tcgetattr(writer)
        settings[1] &= ~termios.OPOST  # line ends stay as they are
        termios.tcsetattr(writer, termios.TCSANOW, settings)
        self.stream = os.fdopen(writer, "w", encoding="utf-8")
        self.resize(width)

    def resize(self, width: int) -> None:
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

    def read(self) -> str:
        """All that was written since. A terminal passes it on when it likes: so an end is written too, and awaited."""
        self.stream.write(END)
        self.stream.flush()
        found = ""
        while not found.endswith(END):
            found += os.read(self._reader, 1 << 16).decode()
        return found.removesuffix(END)

    def close(self) -> None:
        self.stream.close()
        os.close(self._reader)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    found = Terminal(80)
    yield found
    found.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def seen(written: str) -> list[str]:
    """The lines that stay on a terminal, the last being the one that is drawn."""
    return [line.rsplit(CLEAR, 1)[-1] for line in written.split("\n")]


def test_a_terminal_has_one_line_that_is_drawn_again(terminal, clock):
    progress = Progress("measure", terminal.stream, clock)
    for share in (0.0, 0.25, 0.5):
        progress.update(share, "qwen3-8b, 512 + 64 tokens", 130)
        clock.now += 1
    assert terminal.read() == "".join(
        f"{CLEAR}measure [{bar}] {share}%  qwen3-8b, 512 + 64 tokens  2 min 10 s left"
        for bar, share in (("." * 20, "  0"), ("#" * 5 + "." * 15, " 25"), ("#" * 10 + "." * 10, " 50"))
    )


def test_it_is_drawn_ten_times_a_second_at_most(terminal, clock):
    progress = Progress("measure", terminal.stream, clock)
    for step in range(1000):
        progress.update(step / 1000, "x")
        clock.now += 1 / 128
    assert 70 <= terminal.read().count(CLEAR) <= 79


def test_it_is_cleared_at_the_end_even_of_an_error(terminal, clock):
    def fail() -> None:
        with Progress("measure", terminal.stream, clock) as progress:
            progress.update(0.5, "x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen(terminal.read()) == [""]


def test_nothing_is_written_where_nothing_was_told(terminal, clock):
    with Progress("measure", terminal.stream, clock):
        pass
    assert terminal.read() == ""


def test_what_is_said_stays_above(terminal, clock):
    progress = Progress("measure", terminal.stream, clock)
    progress.update(0.5, "x")
    progress.say("one")
    progress.say("two\nthree")
    assert seen(terminal.read()) == ["one", "two", "three", "measure [##########..........]  50%  x"]


def test_what_is_said_is_seen_before_anything_is_told(terminal, clock):
    progress = Progress("measure", terminal.stream, clock)
    progress.say("one")
    assert seen(terminal.read()) == ["one", ""]


def test_it_fits_whatever_the_width_becomes(terminal, clock):
    progress = Progress("measure", terminal.stream, clock)
    for width, line in (
        (100, "measure [########............]  42%  qwen3-30b-a3b, 512 + 64 tokens, run 3  2 min 10 s left"),
        (80, "measure [########............]  42%  qwen3-30b-a3b, 512 + 6...  2 min 10 s left"),
        (50, "measure  42%  qwen3-30b-a3b, ...  2 min 10 s left"),
        (40, "measure  42%  qwen3...  2 min 10 s left"),
        (30, "measure  42%  2 min 10 s left"),
        (12, "measure  42"),
        (1, ""),
    ):
        terminal.resize(width)
        clock.now += 1
        progress.update(0.427, "qwen3-30b-a3b, 512 + 64 tokens, run 3", 130)
        drawn = seen(terminal.read())[-1]
        assert len(drawn) < width
        assert drawn == line


@given(
    width=st.integers(1, 200),
    title=st.text("abc ", max_size=30),
    share=st.floats(-1, 2),
    doing=st.text("xyz \n\t", max_size=120),
    left=st.none() | st.floats(0, 1e7),
)
def test_it_never_needs_a_second_line(width, title, share, doing, left):
    terminal = Terminal(width)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TERM", "xterm")
            Progress(title, terminal.stream).update(share, doing, left)
        drawn = terminal.read()
        assert "\n" not in drawn
        assert len(drawn.removeprefix(CLEAR)) <= max(width - 1, 0)
    finally:
        terminal.close()


def test_without_a_terminal_it_is_a_line_in_half_a_minute(clock):
    stream = io.StringIO()
    with Progress("measure", stream, clock) as progress:
        for second in range(100):
            progress.update(second / 100, "qwen3-8b", 100 - second)
            clock.now += 1
        progress.say("done")
    assert stream.getvalue().splitlines() == [
        "measure 30%  qwen3-8b  1 min 10 s left",
        "measure 60%  qwen3-8b  40 s left",
        "measure 90%  qwen3-8b  10 s left",
        "done",
    ]


def test_short_work_in_a_log_leaves_nothing(clock):
    stream = io.StringIO()
    with Progress("measure", stream, clock) as progress:
        progress.update(0.5, "x")
    assert stream.getvalue() == ""


def test_a_dumb_terminal_is_none(terminal, clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with Progress("measure", terminal.stream, clock) as progress:
        progress.update(0.5, "x")
        progress.say("one")
    assert terminal.read() == "one\n"


def test_standard_error_is_meant_unless_another_is_given(capsys):
    Progress("measure").say("one")
    assert capsys.readouterr().err == "one\n"


def test_a_stream_that_is_gone_does_not_end_the_work(clock):
    reader, writer = os.pipe()
    os.close(reader)
    broken = os.fdopen(writer, "w", encoding="utf-8")
    closed = io.StringIO()
    closed.close()
    for stream in (broken, closed):
        with Progress("measure", stream, clock) as progress:
            progress.update(0.5, "x")
            progress.say("one")
    with pytest.raises(BrokenPipeError):
        broken.close()


def test_there_are_no_colours_and_only_plain_characters(terminal, clock):
    progress = Progress("measure", terminal.stream, clock)
    progress.update(0.5, "x", 3)
    progress.say("one")
    written = terminal.read()
    assert written.isascii()
    assert set(re.findall(r"\x1b[^A-Za-z]*[A-Za-z]", written)) == {"\x1b[K"}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (0.42, "0.4 s"),
        (0.96, "1 s"),
        (12, "12 s"),
        (59.6, "1 min"),
        (130, "2 min 10 s"),
        (3601, "1 h"),
        (3900, "1 h 5 min"),
        (86_400 * 3 + 7300, "3 d 2 h"),
    ],
)
def test_durations_are_said_in_two_units_at_most(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("8m", 480),
        ("1h30m", 5400),
        ("480", 480),
        ("1.5h", 5400),
        ("2m5s", 125),
        ("0.5", 0.5),
        ("1h1s", 3601),
    ],
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-3", "8 m", "m", "1x", "1e5", "nan", "1m1h", "1h30", "٣s", "8m\n"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(DurationError) as refused:
        parse_duration(text)
    assert str(refused.value) == f"{text!r} is no duration; give one such as 90s, 8m or 1h30m, or seconds"
