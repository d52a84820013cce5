"""What names a moment, and what does not."""

import pytest

from stream.since import SinceError, since_moment

NOW = 1.8e9


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - 90),
        ("15m", NOW - 900),
        ("6h", NOW - 21_600),
        ("7d", NOW - 604_800),
        ("2w", NOW - 1_209_600),
        ("1.5h", NOW - 5400),
        ("0s", NOW),
        ("999999999999999d", 0.0),
        ("9" * 400 + "d", 0.0),
        ("2026-01-31T12:00:00Z", 1769860800.0),
        ("2026-01-31T12:00:00.250000Z", 1769860800.25),
        ("2026-01-31T13:30:00+01:30", 1769860800.0),
    ],
)
def test_since(text: str, moment: float) -> None:
    assert since_moment(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "15",
        "15 m",
        "-15m",
        "15M",
        "m",
        "w",
        "٣m",
        "1e3s",
        "yesterday",
        "2026-01-31T12:00:00",
        "2026-13-01T00:00:00Z",
        "15m\n",
    ],
)
def test_what_is_no_since_is_refused(text: str) -> None:
    with pytest.raises(SinceError, match=r"^expected a time such as .*, or 15m, 6h, 7d, 2w$"):
        since_moment(text, NOW)
