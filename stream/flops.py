"""Forward FLOPs of a request, from a few numbers that its model's architecture gives (`profiler.flops`).

A multiply-add counts 2; looking up an embedding, norms, softmax and activations count 0. A generation of o tokens
feeds p + o - 1 positions, as its last token is not fed again, and the output layer works o times: after the prompt on
the last position alone. The query at position i (from 1) meets i keys, in a layer with a window at most that many.
"""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Flops", "FlopsFunction", "flops_function", "forward_flops"]

FlopsFunction = Callable[..., float]
"""of prompt tokens, output tokens and, if there are several, choices"""


@dataclass(frozen=True, slots=True)
class Flops:
    """What one model computes, in FLOPs.

    `per_token`: for every position fed, but for attention to others and the output layer. `per_output_token`: the
    output layer, for every token generated. `per_pair`: for every pair of a query and a key, over all layers that
    attend to everything; `per_window_pair` over those that reach back `window` tokens (0: there are none).
    """

    per_token: float
    per_output_token: float
    per_pair: float
    window: int = 0
    per_window_pair: float = 0.0


def forward_flops(flops: Flops, prompt_tokens: int, output_tokens: int, choices: int = 1) -> float:
    """FLOPs of one request: its prompt encoded once, and `output_tokens` in all of its `choices`, an even share each.

    Without output (an embedding) nothing but the prompt is fed, and the output layer does not work.
    """
    return flops_function(flops)(prompt_tokens, output_tokens, choices)


def flops_function(flops: Flops) -> FlopsFunction:
    """`forward_flops` of one model, for callers that ask many times."""
    per_token, per_output, window = flops.per_token, flops.per_output_token, flops.window
    per_pair, per_window_pair = flops.per_pair, flops.per_window_pair

    def of_one(prompt_tokens: float, output_tokens: float) -> float:
        fed = prompt_tokens + output_tokens - 1 if output_tokens > 1 else prompt_tokens
        found = per_token * fed + per_output * output_tokens + per_pair * (fed * (fed + 1) / 2)
        return found + per_window_pair * _window_pairs(fed, window) if window else found

    def of_all(prompt_tokens: int, output_tokens: int, choices: int = 1) -> float:
        if choices == 1:
            return of_one(prompt_tokens, output_tokens)
        prompt = of_one(prompt_tokens, 0)
        return prompt + choices * (of_one(prompt_tokens, output_tokens / choices) - prompt)

    return of_all


def _window_pairs(length: float, window: int) -> float:
    """Pairs of the first `length` positions: a triangle, then a band as wide as the window."""
    near = min(length, window)
    return near * (near + 1) / 2 + (length - near) * window
