"""Prompts of a wanted number of tokens that no prompt cache has seen: pure but for its own random numbers.

Words are of four letters each and common, so that nearly every tokenizer has one token for each (and one by one byte
as many for each of them): the tokens of a prompt are a template's and so many a word. Both are learned from what
replies say of their prompts. The words are drawn anew for each prompt, from its first one on.
"""

import math
import random

__all__ = ["MOST_TEMPLATE", "Prompts"]

_ALL_WORDS = (
    "able acid aged army away baby back ball band bank base bath bear beat been beer bell belt best bill bird blow "
    "blue boat body bone book born both bowl bulk burn bush busy cake call calm came camp card care case cash cast "
    "cell chat chip city club coal coat code cold come cook cool cope copy core cost crew crop dark data date dawn "
    "days dead deal dean dear debt deep desk dial diet disc disk does done door down draw drew drop drug dual duke "
    "dust duty each earn ease east easy edge else even ever exam exit face fact fail fair fall farm fast fate fear "
    "feed feel feet fell felt file fill film find fine fire firm fish five flat flow food foot form fort four free "
    "from fuel full fund gain game gate gave gear gene gift girl give glad goal goes gold golf gone good gray grew "
    "grey grow gulf hair half hall hand hang hard harm hate have head hear heat held help here hero high hill hire "
    "hold hole holy home hope host hour huge hung hunt hurt idea inch into iron item jack join jump jury just keen"
)
_WORDS = _ALL_WORDS.split()
_WISH = "Tell me a very long story with these words, and never stop:"
_WISHED = len(_WISH.split()) + 2  # its comma and colon

MOST_TEMPLATE = 512
"""Tokens that a server adds to a prompt at most, as long as it has said nothing."""

_MARGIN, _MARGIN_TOKENS = 1.1, 16


class Prompts:
    """Makes prompts, and knows how many tokens they have. `seed` makes them repeatable: only tests want that."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 - unlike each other, not secret
        self._seen: dict[int, int] = {}
        self._excess = 1.0

    def text(self, words: int, *, long: bool) -> str:
        """Return a prompt of so many words, at least one; with `long` it asks for a long reply, if there is room."""
        if not long or words <= _WISHED:
            return " ".join(self._drawn(max(words, 1)))
        drawn = self._drawn(words - _WISHED)
        return f"{' '.join(drawn)}. {_WISH}"  # the wish comes last: what repeats may not come first

    def _drawn(self, words: int) -> list[str]:
        return self._random.choices(_WORDS, k=words)

    def learn(self, words: int, tokens: int) -> None:
        """Take in that a prompt of so many words had so many tokens, all that the server added included."""
        if len(self._seen) >= 2:
            self._excess = max(self._excess, tokens / self._tokens(words))
        self._seen[words] = tokens

    def words(self, tokens: int) -> int:
        """Return how many words make a prompt of so many tokens; one at least, whatever the template takes."""
        template, each = self._line()
        return max(round((tokens - template) / each), 1)

    def most_tokens(self, words: int, text: str) -> int:
        """Return more tokens than the prompt `text` of so many words will be found to have."""
        if len(self._seen) < 2:
            return len(text.encode()) + MOST_TEMPLATE  # no token is less than a byte
        return math.ceil(_MARGIN * self._excess * self._tokens(words)) + _MARGIN_TOKENS

    def _tokens(self, words: int) -> float:
        template, each = self._line()
        return max(template + each * words, 1.0)

    def _line(self) -> tuple[float, float]:
        """The template's tokens and those of a word: a line through the smallest and the largest prompt seen."""
        if len(self._seen) < 2:
            return 0.0, 1.0
        few, many = min(self._seen), max(self._seen)
        each = max((self._seen[many] - self._seen[few]) / (many - few), 0.1)
        return max(self._seen[few] - each * few, 0.0), each
