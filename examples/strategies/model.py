"""A small transformer language model in NumPy: decoder-only, word by word, with a cache of keys and values.

Pre-norm blocks (RMS norm without weights), learned positions, ReLU feed-forward, the output layer tied to the
embedding. `train.py` made the weights that lie in `weights/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONTEXT", "END", "MODELS", "WORDS", "Floats", "Model", "Sample", "Shape", "decode", "encode", "load"]

WORDS = (*"0123456789", "=", ".")
END = WORDS.index(".")
CONTEXT = 32
_WEIGHTS = Path(__file__).with_name("weights")
_EPSILON = np.float32(1e-5)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """How large a model is."""

    layers: int
    hidden: int
    heads: int
    ffn: int


MODELS = {"sums-large": Shape(2, 48, 4, 192), "sums-small": Shape(2, 32, 4, 96)}


def encode(text: str) -> list[int]:
    """Text as tokens, a word each; ValueError for a word that the model does not know."""
    return [WORDS.index(word) for word in text.split()]


def decode(tokens: Sequence[int]) -> str:
    """Tokens as text."""
    return " ".join(WORDS[token] for token in tokens)


def root_mean_square(x: Floats) -> Floats:
    """That of each vector, as a vector of one."""
    found: Floats = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + _EPSILON)
    return found


def norm(x: Floats) -> Floats:
    """Divide each vector by its root mean square."""
    found: Floats = x / root_mean_square(x)
    return found


def log_softmax(x: Floats) -> Floats:
    """Logarithms of the probabilities that go with logits."""
    x = x - x.max(axis=-1, keepdims=True)
    found: Floats = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return found


@dataclass
class Sample:
    """One choice: its tokens, without the one that ended it, and the log probability of each; why it ended."""

    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    generated: int = 0
    """with the one that ended it"""
    finish_reason: str | None = None


class Model:
    """Weights, and how text is made with them."""

    def __init__(self, shape: Shape, weights: Mapping[str, Floats]) -> None:
        self.shape = shape
        self.weights = weights

    def generate(
        self,
        prompt: Sequence[int],
        choices: int = 1,
        longest: int = CONTEXT,
        temperature: float = 0.0,
        seed: int = 0,
        stop: Sequence[int] = (END,),
    ) -> list[Sample]:
        """Continue a prompt `choices` times, side by side, until a `stop` token or the length.

        Log probabilities are those of temperature 1. A temperature of 0 takes the likeliest token.
        """
        longest = min(longest, CONTEXT - len(prompt))
        dice = np.random.default_rng(seed)
        samples = [Sample() for _ in range(choices)]
        cache = self._cache(choices)
        logits = np.repeat(self._feed(np.array([prompt]), 0, cache[:, :, :1])[:, -1], choices, axis=0)
        cache[:, :, 1:, :, : len(prompt)] = cache[:, :, :1, :, : len(prompt)]
        for at in range(len(prompt), len(prompt) + longest):
            tokens = _drawn(logits, temperature, dice)
            log_probabilities = log_softmax(logits)
            for place, (sample, token) in enumerate(zip(samples, tokens.tolist(), strict=True)):
                if sample.finish_reason is None:
                    _add(sample, token, float(log_probabilities[place, token]), stop, longest)
            if all(sample.finish_reason for sample in samples):
                break
            logits = self._feed(tokens[:, None], at, cache)[:, -1]
        return samples

    def _cache(self, rows: int) -> Floats:
        """Keys and values: layers, both, rows, heads, positions, width of a head."""
        shape = self.shape
        return np.zeros((shape.layers, 2, rows, shape.heads, CONTEXT, shape.hidden // shape.heads), np.float32)

    def _feed(self, tokens: NDArray[np.int64], at: int, cache: Floats) -> Floats:
        """Feed tokens (rows, some) from position `at` on; return their logits, and keep keys and values."""
        shape, weights = self.shape, self.weights
        rows, some = tokens.shape
        until = at + some
        hidden_future = np.arange(until)[None, :] > np.arange(at, until)[:, None]
        x = weights["embedding"][tokens] + weights["positions"][at:until]
        for layer in range(shape.layers):
            query, key, value = np.moveaxis(
                (norm(x) @ weights[f"{layer}.qkv"]).reshape(rows, some, 3, shape.heads, -1), (2, 3), (0, 2)
            )
            cache[layer, 0, :, :, at:until], cache[layer, 1, :, :, at:until] = key, value
            keys, values = cache[layer, :, :, :, :until]
            scores = query @ keys.swapaxes(-1, -2) / np.sqrt(np.float32(query.shape[-1]))
            scores[..., hidden_future] = -np.inf
            mixed = np.exp(log_softmax(scores)) @ values
            x = x + mixed.swapaxes(1, 2).reshape(rows, some, -1) @ weights[f"{layer}.out"]
            x = x + np.maximum(norm(x) @ weights[f"{layer}.up"], 0) @ weights[f"{layer}.down"]
        return norm(x) @ weights["embedding"].T


def _drawn(logits: Floats, temperature: float, dice: np.random.Generator) -> NDArray[np.int64]:
    """A token for each row: the likeliest, or one by chance (with Gumbel noise, the likeliest is a fair draw)."""
    noisy = logits / temperature + dice.gumbel(size=logits.shape) if temperature > 0 else logits
    found: NDArray[np.int64] = np.argmax(noisy, axis=-1)
    return found


def _add(sample: Sample, token: int, log_probability: float, stop: Sequence[int], longest: int) -> None:
    sample.generated += 1
    if token in stop:
        sample.finish_reason = "stop"
        return
    sample.tokens.append(token)
    sample.log_probabilities.append(log_probability)
    if sample.generated == longest:
        sample.finish_reason = "length"


def save(name: str, model: Model, **said: str) -> None:
    """Write weights in half precision, with what is `said` of them."""
    shape = model.shape
    numbers: dict[str, Any] = {name: weight.astype(np.float16) for name, weight in model.weights.items()}
    sizes = [shape.layers, shape.hidden, shape.heads, shape.ffn]
    np.savez_compressed(
        _WEIGHTS / f"{name}.npz", shape=sizes, about=[f"{key}: {value}" for key, value in said.items()], **numbers
    )


def load(name: str) -> Model:
    """The model of that name."""
    with np.load(_WEIGHTS / f"{name}.npz") as file:
        weights = {key: file[key].astype(np.float32) for key in file.files if key not in {"shape", "about"}}
        return Model(Shape(*map(int, file["shape"])), weights)
