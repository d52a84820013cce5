"""Predictions as text and as JSON: what `profiler predict` prints."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from profiler.hardware import Hardware, stacks
from profiler.prediction import WIDTHS, Prediction, placed, stands_on
from profiler.roofline import USABLE_MEMORY, context_bytes, context_copies, weight_bytes
from profiler.tables import row_record
from stream.runtime import prompt_function

__all__ = ["many", "one", "record"]

_GIGA = 1e9
_NOTHING = "-"
_WIDTH = 100
_SHARED_PROMPT = 512
_FEW = 4  # cases of which the interval is that of the largest error


def one(prediction: Prediction, name: str | None, prompts: Iterable[int]) -> str:
    """A prediction in full: F at these prompt sizes, beta and gamma with their bands, and what they stand on."""
    model, band = prediction.architecture, prediction.band
    numbers = prediction.coefficients
    prompt = prompt_function(numbers)
    lines = [
        f"{name or model.name} on {prediction.hardware.name}: predicted, {placed(prediction)}",
        f"  {_memory(prediction)}",
        *_software(prediction.hardware),
        "",
        f"  {'':14} {'seconds':>10}   80 % band",
        *(_line(f"F({tokens})", prompt(tokens), band.prompt) for tokens in prompts if tokens <= numbers.last_knot),
        _line("beta", numbers.per_output_token, band.token),
        _line("gamma", numbers.context, band.context),
        *_served(prediction),
        "",
        *_standing(prediction),
    ]
    return "\n".join(lines)


def many(predictions: Sequence[Prediction], prompts: Iterable[int]) -> str:
    """A line a model."""
    sizes = tuple(prompts)
    widest = max(len(each.architecture.name) for each in predictions)
    head = f"{'model':{widest}}  {'devices':>7} {'weights':>7} {'beta s':>9} {'gamma s':>9}"
    head += "".join(f" {f'F({size})':>9}" for size in sizes) + "  80 % band of T"
    first = predictions[0].hardware
    lines = [f"{first.name}: predicted. {stands_on(first)}", "", head]
    for each in predictions:
        numbers, prompt = each.coefficients, prompt_function(each.coefficients)
        low, high = each.band.runtime
        last = numbers.last_knot
        shown = "".join(f" {prompt(size):>9.4g}" if size <= last else f" {_NOTHING:>9}" for size in sizes)
        lines.append(
            f"{each.architecture.name:{widest}}  {each.devices:>7} {_weights(each):>7}"
            f" {numbers.per_output_token:>9.4g} {numbers.context:>9.3g}{shown}  x {low:g} to {high:g}"
        )
    return "\n".join([*lines, *_remarks(predictions)])


def _remarks(predictions: Sequence[Prediction]) -> list[str]:
    """The notes, each with the models that it is about."""
    names: dict[str, list[str]] = {}
    for each in predictions:
        for note in each.notes:
            names.setdefault(note, []).append(each.architecture.name)
    lines = [line for note, models in names.items() for line in _wrapped(f"Note: {note}: {', '.join(models)}", "")]
    return ["", *lines] if lines else []


def record(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON: the table's row, and what it stands on."""
    hardware = prediction.hardware
    left_out = {
        error.what: {"median": error.median, "worst": error.worst, "interval": list(error.interval)}
        for error in hardware.left_out
    }
    return {
        **row_record(prediction.row()),
        "tensor_parallel": prediction.placement.tensor,
        "pipeline_stages": prediction.placement.stages,
        "weight_bytes": weight_bytes(prediction.architecture),
        "fits": prediction.fits,
        "calibrated": hardware.calibrated,
        "calibrated_on": hardware.calibrated_on,
        "left_out": left_out,
    }


def _line(what: str, seconds: float, factors: tuple[float, float]) -> str:
    low, high = factors
    return f"  {what:14} {seconds:>10.4g}   {seconds * low:.3g} to {seconds * high:.3g}"


def _served(prediction: Prediction) -> list[str]:
    """One request's share where many are served at once, a line."""
    if prediction.served is None:
        return []
    batch, share = prediction.served.batch, prediction.served.coefficients
    first = f"F({_SHARED_PROMPT}) {prompt_function(share)(_SHARED_PROMPT):.4g}"
    return ["", f"  one request's share of {batch} at once: {first}, beta {share.per_output_token:.4g} s"]


def _memory(prediction: Prediction) -> str:
    model, hardware, devices = prediction.architecture, prediction.hardware, prediction.devices
    weights, memory = weight_bytes(model) / devices, hardware.memory_bytes
    left = USABLE_MEMORY * memory - weights
    share = f"{weights / _GIGA:.1f} of {memory / _GIGA:.0f} GB of each device are weights"
    each = context_bytes(model) * context_copies(model, prediction.placement) / devices
    if not prediction.fits:
        return f"{share}: it does NOT fit"
    if not each:
        return f"{share}; it fits"
    return f"{share}; it fits, with room for {left / each:,.0f} tokens of context at most"


def _software(hardware: Hardware) -> list[str]:
    """What runs on it, and which other stacks of the device one may have meant."""
    others = [name for name, each in stacks().items() if each.device == hardware.device and name != hardware.name]
    also = f"; other stacks of this device: {', '.join(others)}" if others else ""
    return _wrapped(f"{hardware.software}, batch size 1{also}")


def _standing(prediction: Prediction) -> list[str]:
    hardware = prediction.hardware
    texts = [stands_on(hardware)]
    for error in hardware.left_out:
        low, high = error.interval
        within = "all" if 0 < error.cases <= _FEW else "80 %"
        texts.append(
            f"Left out of that ({error.what}): median error {error.median:.1%}, worst {error.worst:.1%},"
            f" {within} within x {low:g} to {high:g}."
        )
    texts.append("The band of gamma is a judgement: hardly any measurement shows it by itself.")
    if not hardware.left_out:
        texts.append("Nothing was left out of that to tell the error: the band is a judgement.")
    texts += [hardware.note[:1].upper() + hardware.note[1:] + "."] if hardware.note else []
    texts += [f"Note: {note}." for note in prediction.notes]
    return [line for text in texts for line in _wrapped(text)]


def _weights(prediction: Prediction) -> str:
    kept = prediction.architecture.weights
    return WIDTHS.get(kept, kept)


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
