"""Label values fit for Prometheus: readable, valid UTF-8, of bounded length and bounded number.

A label value comes from the wire (a model name is whatever a client typed), so it is hostile until cleaned,
and every new value costs memory here and in every Prometheus server that scrapes it.
"""

from collections.abc import Callable

OTHER = "other"
MAX_LABEL_LENGTH = 128
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean_label(value: str | None) -> str:
    """Return `value` as a label value; `None` is the empty string, which Prometheus reads as "no such label".

    Control characters, line breaks, direction marks and lone surrogates become U+FFFD; a value longer than
    `MAX_LABEL_LENGTH` characters is cut and ends in an ellipsis.
    """
    if value is None:
        return ""
    if len(value) > MAX_LABEL_LENGTH:
        value = value[: MAX_LABEL_LENGTH - 1] + "…"
    if value.isprintable():
        return value
    return "".join(char if char.isprintable() else _REPLACEMENT for char in value)


class BoundedLabel:
    """The values that one label may take: the first `limit` distinct ones, all later ones are `other`.

    At most half of the values may be *doubtful* (first seen on a request that failed), so that a client with
    a wrong model name in a loop cannot take every place. The empty value and `other` take no place.
    `on_overflow` is called with the label's name each time a value is folded into `other`.
    """

    __slots__ = ("limit", "name", "on_admit", "on_overflow", "values")

    def __init__(self, name: str, limit: int, on_admit: Callable[[], None], on_overflow: Callable[[str], None]) -> None:
        """Start with no values; `on_admit` is called whenever one is added."""
        self.name = name
        self.limit = limit
        self.values: set[str] = set()
        self.on_admit = on_admit
        self.on_overflow = on_overflow

    def admit(self, value: str | None, *, doubtful: bool = False) -> str:
        """Return the label value to use for `value`, counting it when it is folded."""
        label = clean_label(value)
        if label in self.values or label in ("", OTHER):
            return label
        places = (self.limit + 1) // 2 if doubtful else self.limit
        if len(self.values) < places:
            self.values.add(label)
            self.on_admit()
            return label
        self.on_overflow(self.name)
        return OTHER
