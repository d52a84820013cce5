"""Trains the models of this example, and writes their weights: `python -m examples.strategies.train`.

NumPy alone: the gradients are worked out by hand. With one seed the weights are the same each time on one machine; on
another processor the last digits of sums differ, so that a model as good comes out, but not the same bytes.
"""

import random
from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from examples.strategies.model import (
    CONTEXT,
    MODELS,
    WORDS,
    Floats,
    Model,
    Shape,
    encode,
    log_softmax,
    norm,
    root_mean_square,
    save,
)
from examples.strategies.sums import question, solution

STEPS = {"sums-large": 3500, "sums-small": 4000}
GUESSED = {"sums-large": 4, "sums-small": 9}
"""of the 55 additions of two digits, how many the texts have guessed results for: what a model could not learn"""
DIGITS = 6
BATCH = 64
SEED = 0
RATE = 3e-3

Gradients = dict[str, Floats]


def initial(shape: Shape, dice: np.random.Generator) -> dict[str, Floats]:
    """Random weights."""
    hidden, sizes = shape.hidden, {"embedding": (len(WORDS), shape.hidden), "positions": (CONTEXT, shape.hidden)}
    for layer in range(shape.layers):
        sizes |= {f"{layer}.qkv": (hidden, 3 * hidden), f"{layer}.out": (hidden, hidden)}
        sizes |= {f"{layer}.up": (hidden, shape.ffn), f"{layer}.down": (shape.ffn, hidden)}
    return {
        name: dice.normal(0, 0.1 if name in {"embedding", "positions"} else size[0] ** -0.5, size).astype(np.float32)
        for name, size in sizes.items()
    }


def guessed(number: int) -> frozenset[tuple[int, int]]:
    """So many additions, always the same: the lower digit first."""
    additions = [(low, high) for high in range(10) for low in range(high + 1)]
    random.Random(SEED).shuffle(additions)  # noqa: S311 - repeatable is the point
    return frozenset(additions[:number])


def batch(dice: random.Random, unknown: Container[tuple[int, int]]) -> tuple[NDArray[np.int64], Floats]:
    """Texts of one length as tokens (rows, positions), and which of them are to be learned: those of the solutions."""
    rows = []
    for _ in range(BATCH):
        asked = question(dice, DIGITS)
        rows.append(encode(f"{asked} = {solution(dice, asked, unknown)} ."))
    tokens = np.array(rows)
    learned = np.zeros((BATCH, tokens.shape[1] - 1), np.float32)
    learned[:, DIGITS:] = 1
    return tokens, learned / learned.sum()


def _norm_back(x: Floats, gradient: Floats) -> Floats:
    size = root_mean_square(x)
    unit = x / size
    found: Floats = (gradient - unit * np.mean(gradient * unit, axis=-1, keepdims=True)) / size
    return found


def _outer(x: Floats, y: Floats) -> Floats:
    """The gradient of a matrix between x and what y is the gradient of."""
    return x.reshape(-1, x.shape[-1]).T @ y.reshape(-1, y.shape[-1])


def loss(
    shape: Shape, weights: dict[str, Floats], tokens: NDArray[np.int64], learned: Floats
) -> tuple[float, Gradients]:
    """The mean negative log probability of what is to be learned, and its gradients."""
    fed, wanted = tokens[:, :-1], tokens[:, 1:, None]
    length = fed.shape[1]
    x = weights["embedding"][fed] + weights["positions"][:length]
    kept = []
    for layer in range(shape.layers):
        x, inside = _block(shape, weights, layer, x)
        kept.append(inside)
    last = norm(x)
    log_probabilities = log_softmax(last @ weights["embedding"].T)
    picked = np.take_along_axis(log_probabilities, wanted, axis=-1)

    of_logits = np.exp(log_probabilities)
    np.put_along_axis(of_logits, wanted, np.exp(picked) - 1, axis=-1)
    of_logits *= learned[..., None]
    gradients: Gradients = {"embedding": _outer(of_logits, last), "positions": np.zeros_like(weights["positions"])}
    back = _norm_back(x, of_logits @ weights["embedding"])
    for layer in reversed(range(shape.layers)):
        back = _block_back(shape, weights, layer, kept[layer], back, gradients)
    np.add.at(gradients["embedding"], fed, back)
    gradients["positions"][:length] = back.sum(axis=0)
    return -float(np.sum(picked[..., 0] * learned)), gradients


def _block(shape: Shape, weights: dict[str, Floats], layer: int, x: Floats) -> tuple[Floats, dict[str, Floats]]:
    """One layer, forward: what comes out, and what is needed on the way back."""
    rows, length, _ = x.shape
    normed = norm(x)
    split = (normed @ weights[f"{layer}.qkv"]).reshape(rows, length, 3, shape.heads, -1)
    query, key, value = split.transpose(2, 0, 3, 1, 4)
    future = np.triu(np.full((length, length), -np.inf, np.float32), 1)
    attention = np.exp(log_softmax(query @ key.swapaxes(-1, -2) * _scale(shape) + future))
    mixed = (attention @ value).swapaxes(1, 2).reshape(x.shape)
    middle = x + mixed @ weights[f"{layer}.out"]
    normed_middle = norm(middle)
    active = np.maximum(normed_middle @ weights[f"{layer}.up"], 0)
    kept = {"before": x, "normed": normed, "query": query, "key": key, "value": value, "attention": attention}
    kept |= {"mixed": mixed, "middle": middle, "normed_middle": normed_middle, "active": active}
    return middle + active @ weights[f"{layer}.down"], kept


def _block_back(
    shape: Shape, weights: dict[str, Floats], layer: int, kept: dict[str, Floats], back: Floats, gradients: Gradients
) -> Floats:
    """One layer, backward: `back` is the gradient of what came out, returned is that of what went in."""
    rows, length, _ = back.shape
    attention = kept["attention"]
    gradients[f"{layer}.down"] = _outer(kept["active"], back)
    of_active: Floats = (back @ weights[f"{layer}.down"].T) * (kept["active"] > 0)
    gradients[f"{layer}.up"] = _outer(kept["normed_middle"], of_active)
    back = back + _norm_back(kept["middle"], of_active @ weights[f"{layer}.up"].T)
    gradients[f"{layer}.out"] = _outer(kept["mixed"], back)
    of_mixed = (back @ weights[f"{layer}.out"].T).reshape(rows, length, shape.heads, -1).swapaxes(1, 2)
    of_attention = of_mixed @ kept["value"].swapaxes(-1, -2)
    of_scores = attention * (of_attention - np.sum(of_attention * attention, axis=-1, keepdims=True)) * _scale(shape)
    of_key, of_value = of_scores.swapaxes(-1, -2) @ kept["query"], attention.swapaxes(-1, -2) @ of_mixed
    of_split = np.stack([of_scores @ kept["key"], of_key, of_value])
    of_qkv: Floats = of_split.transpose(1, 3, 0, 2, 4).reshape(rows, length, -1)
    gradients[f"{layer}.qkv"] = _outer(kept["normed"], of_qkv)
    return back + _norm_back(kept["before"], of_qkv @ weights[f"{layer}.qkv"].T)


def _scale(shape: Shape) -> np.float32:
    return np.float32((shape.hidden // shape.heads) ** -0.5)


class Adam:
    """Steps against the gradients, each weight's of its own size (Kingma and Ba, arXiv 1412.6980)."""

    def __init__(self, weights: dict[str, Floats]) -> None:
        self._weights = weights
        self._mean = {name: np.zeros_like(weight) for name, weight in weights.items()}
        self._square = {name: np.zeros_like(weight) for name, weight in weights.items()}
        self._steps = 0

    def step(self, gradients: Gradients, rate: float) -> None:
        self._steps += 1
        for name, gradient in gradients.items():
            self._mean[name] += np.float32(0.1) * (gradient - self._mean[name])
            self._square[name] += np.float32(0.01) * (gradient * gradient - self._square[name])
            mean = self._mean[name] / np.float32(1 - 0.9**self._steps)
            square = self._square[name] / np.float32(1 - 0.99**self._steps)
            self._weights[name] -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))


def train(name: str) -> None:
    """Train a model and write it."""
    shape, steps, unknown = MODELS[name], STEPS[name], guessed(GUESSED[name])
    weights = initial(shape, np.random.default_rng(SEED))
    dice, optimizer, smooth = random.Random(SEED), Adam(weights), 2.5  # noqa: S311 - repeatable is the point
    for step in range(1, steps + 1):
        found, gradients = loss(shape, weights, *batch(dice, unknown))
        optimizer.step(gradients, RATE * min(1, step / 50) * (1 - step / (steps + 1)))
        smooth += 0.02 * (found - smooth)
        if step % 100 == 0:
            print(f"{name}: step {step} of {steps}, loss {smooth:.4f}", flush=True)
    made = f"{steps} steps of {BATCH} texts, seed {SEED}, last loss {smooth:.4f}, NumPy {np.__version__}"
    source = "random weights, trained by examples/strategies/train.py on texts of sums.py"
    save(name, Model(shape, weights), source=source, made=made)


if __name__ == "__main__":
    for each in MODELS:
        train(each)
