#!/usr/bin/env python3
"""Hold the shapes that `profiler measure` builds against transformers itself: sizes, caches, and some of the layers.

    python tests/prove/shapes.py                # needs the extra `profiler`; two minutes on a CPU
    python tests/prove/shapes.py --short        # the suite alone, without compiling, for CI

At full size, on the meta device, which keeps no weights: every shipped model, and numbers written out for every family,
have as many parameters in transformers as `Architecture` counts. Small likenesses run: a prompt and some tokens, with
a cache that grows and with a static one, give the same logits, whichever way experts are computed; a step with the
static cache compiles whole and asks nothing of the device that a CUDA graph could not hold. A model of some layers
is the first layers of the whole.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from proving import Claims

from profiler.architectures import architectures
from profiler.depths import truncated
from profiler.shapes import Shape, shape
from profiler.suite import small, suite

os.environ["HF_HUB_OFFLINE"] = "1"

WITHIN = 0.005
AGREE = 1e-4  # of logits about 1
PROMPT, OUTPUT, LENGTH = 24, 12, 64  # the prompt ends within the windows of 32, the output beyond
HOST = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select")

NUMBERS = "layers=4,hidden=2048,heads=16,ffn=5632,vocabulary=32000"
MIXED = "experts=16,active=4,expert_ffn=768"
WRITTEN_OUT = (
    f"{NUMBERS},kv_heads=4",
    f"{NUMBERS},kv_heads=4,layer_norms=4,tied=true",
    f"{NUMBERS},window=512",
    f"{NUMBERS},window=512,window_layers=3",
    f"{NUMBERS},gated=false,parallel=true",
    f"{NUMBERS},gated=false",
    f"{NUMBERS},gated=false,kv_heads=4,head_dim=64",
    f"{NUMBERS},parallel=true,layer_norms=1,tied=true",
    f"{NUMBERS},{MIXED}",
    f"{NUMBERS},{MIXED},layer_norms=4,dense_layers=1",
    f"{NUMBERS},{MIXED},shared_ffn=768,dense_layers=1",
    f"{NUMBERS},{MIXED},shared_ffn=1000",
    f"{NUMBERS},{MIXED},shared_ffn=768,q_rank=512,kv_rank=256,nope=64,rope=32,value=64",
)


def built(config: Any, **how: Any) -> Any:
    """The model of a config, in 32 bits, its weights random and the same each time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32, **how).eval()


def parameters(config: Any) -> int:
    """How many transformers makes of a config, at full size."""
    import torch

    with torch.device("meta"):
        return sum(each.numel() for each in built(config).parameters())


def logits(model: Any, cache: Any) -> Any:
    """Those of a prompt's last token and of some more, all given."""
    import torch

    given = torch.randint(0, 2000, (1, PROMPT + OUTPUT), generator=torch.Generator().manual_seed(1))
    steps = [given[:, :PROMPT], *given[:, PROMPT:].split(1, dim=1)]
    with torch.inference_mode():
        found = [model(each, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1] for each in steps]
    return torch.cat(found)


def ways(model: Shape) -> tuple[str | None, ...]:
    """The implementations of experts. Llama 4 has its own: all of them, for every token."""
    chosen = model.architecture.experts and model.config["model_type"] != "llama4_text"
    return ("grouped_mm", "batched_mm", "eager") if chosen else (None,)


def runs(claims: Claims, model: Shape) -> None:
    """Both caches and every way give the same."""
    from transformers import DynamicCache, StaticCache

    first, far = None, 0.0
    for way in ways(model):
        made = built(model.config, **({"experts_implementation": way} if way else {}))
        for cache in (DynamicCache(config=made.config), StaticCache(config=made.config, max_cache_len=LENGTH)):
            found = logits(made, cache)
            first = found if first is None else first
            far = max(far, float((found - first).abs().max()))
    claims.claim(f"small {model.config['model_type']}: growing and static caches agree", far <= AGREE, f"{far:.1e}")


def captured(claims: Claims, model: Shape, *, compiled: bool) -> None:
    """A step over one token, with the static cache, is one graph, and waits for nothing."""
    import torch
    from transformers import StaticCache

    way = ways(model)[0]
    made = built(model.config, **({"experts_implementation": way} if way else {}))
    cache = StaticCache(config=made.config, max_cache_len=LENGTH)
    logits(made, cache)
    asked = _asked_of_host(lambda: _step(made, cache))
    claims.claim(f"small {model.config['model_type']}: a step asks nothing of the host", not asked, ", ".join(asked))
    if compiled:
        torch.compiler.reset()
        whole = torch.compile(made, fullgraph=True, backend="aot_eager", dynamic=False)
        found, wanted = (_step(each, _filled(made)) for each in (whole, made))
        far = float((found - wanted).abs().max())
        claims.claim(f"small {model.config['model_type']}: a step compiles whole", far <= AGREE, f"{far:.1e}")


def _filled(model: Any) -> Any:
    from transformers import StaticCache

    cache = StaticCache(config=model.config, max_cache_len=LENGTH)
    logits(model, cache)
    return cache


def _step(model: Any, cache: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(torch.full((1, 1), 7), past_key_values=cache, use_cache=True).logits


def _asked_of_host(step: Any) -> list[str]:
    """Operations whose results a host would have to wait for."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.found += [function._schema.name] * (function._schema.name in HOST)
            return function(*args, **(kwargs or {}))

    with Watch() as watch:
        step()
    return watch.found


def some_layers(claims: Claims, model: Shape) -> None:
    """The config of some layers takes the whole's first layers: same names, same sizes, and no others."""
    layers = model.architecture.layers - 1
    whole = {key: tuple(each.shape) for key, each in built(model.config).state_dict().items()}
    found = {key: tuple(each.shape) for key, each in built(truncated(model.config, layers)).state_dict().items()}
    gone = {key for key in whole if f".{layers}." in key}
    same = found == {key: size for key, size in whole.items() if key not in gone}
    claims.claim(f"small {model.config['model_type']}: {layers} of its layers are the first ones", same and bool(gone))


def sizes(short: bool) -> Iterator[Shape]:
    """The shapes whose parameters are counted."""
    yield from suite("modern")
    if not short:
        yield from map(shape, architectures())
        yield from map(shape, WRITTEN_OUT)


def main(argv: Sequence[str] | None = None) -> int:
    """Count, build and run; 0 when every claim holds, 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="the suite alone, without compiling")
    options = parser.parse_args(argv)
    from transformers.utils import logging

    logging.set_verbosity_error()
    claims, began = Claims("shapes"), time.monotonic()
    for each in sizes(options.short):
        counted, ours = parameters(each.config), each.architecture.total_parameters()
        detail = f"{counted / 1e9:.3f} billion, {ours / counted - 1:+.3%}"
        name = f"{each.name} ({each.config['model_type']})"
        claims.claim(f"{name}: as many parameters", abs(ours / counted - 1) <= WITHIN, detail)
    families = {str(each.config["model_type"]): each for each in reversed(list(sizes(options.short)))}
    for each in families.values():
        little = small(each)
        some_layers(claims, little)
        runs(claims, little)
        captured(claims, little, compiled=not options.short)
    return claims.finish(f"{len(families)} families in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
