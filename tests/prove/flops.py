#!/usr/bin/env python3
"""Hold our FLOPs against torch's own counter, on small models of many architectures with random weights.

    python tests/prove/flops.py                # needs the extra `profiler`; a minute on a CPU
    python tests/prove/flops.py --short        # two requests each, for CI
    python tests/prove/flops.py --write        # renew tests/golden/torch_flops.json with what was counted

Two ways of running each model, counted by `torch.utils.flop_counter`:

`steps`: every position by itself, with a cache of keys and values: each query meets exactly the keys that there are.
Positions of the prompt but the last pass no output layer.

`whole`: the prompt at once, logits for its last position alone, then a position at a time.

What is run beyond what has to be is `surplus`, known exactly, and taken off. Of a prompt fed at once, masked
attention is counted as the full square p * p, over windows too: wanted is the triangle, or the band. And DeepSeek's
code keeps keys and values compressed and expands all of them again at every step: wanted is each once.

Experts run one by one: other implementations compute all of them for every token, or call kernels that the counter
does not know.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from proving import ROOT, Claims

from profiler.architectures import Architecture
from profiler.config import from_config
from profiler.flops import flops_of
from stream.flops import forward_flops

GOLDEN = ROOT / "tests" / "golden" / "torch_flops.json"
WITHIN = 0.01
REQUESTS = (7, 1), (40, 24), (1, 1), (90, 30)  # prompt and output tokens: within the windows of 32, and beyond
SHORT = REQUESTS[:2]

SHAPE = {"num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 8, "vocab_size": 1000}
GROUPED = {**SHAPE, "num_key_value_heads": 2, "intermediate_size": 352}
EXPERTS = {**GROUPED, "num_experts_per_tok": 2, "moe_intermediate_size": 96}
LATENT = {"q_lora_rank": 48, "kv_lora_rank": 32, "qk_nope_head_dim": 24, "qk_rope_head_dim": 8, "v_head_dim": 16}
HALF_WINDOWS = ["sliding_attention", "full_attention"] * 2

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **GROUPED},
    "qwen3": {"model_type": "qwen3", **GROUPED, "head_dim": 32, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", **GROUPED, "sliding_window": 32},
    "gemma2": {"model_type": "gemma2", **GROUPED, "head_dim": 32, "sliding_window": 32, "layer_types": HALF_WINDOWS},
    "gemma3": {
        "model_type": "gemma3_text",
        **GROUPED,
        "head_dim": 32,
        "sliding_window": 32,
        "layer_types": HALF_WINDOWS,
    },
    "cohere2": {"model_type": "cohere2", **GROUPED, "sliding_window": 32, "layer_types": HALF_WINDOWS},
    "gpt_neox": {"model_type": "gpt_neox", **SHAPE, "intermediate_size": 512},
    "gptj": {"model_type": "gptj", "n_layer": 4, "n_embd": 128, "n_head": 8, "vocab_size": 1000, "rotary_dim": 8},
    "opt": {"model_type": "opt", **SHAPE, "word_embed_proj_dim": 128, "ffn_dim": 512},
    "bloom": {"model_type": "bloom", "n_layer": 4, "hidden_size": 128, "n_head": 8, "vocab_size": 1000},
    "falcon": {"model_type": "falcon", **SHAPE, "multi_query": True},
    "phi": {"model_type": "phi", **SHAPE, "intermediate_size": 512},
    "mixtral": {"model_type": "mixtral", **GROUPED, "num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen3_moe": {"model_type": "qwen3_moe", **EXPERTS, "num_experts": 16, "head_dim": 32},
    "gpt_oss": {
        "model_type": "gpt_oss",
        **GROUPED,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "head_dim": 32,
        "sliding_window": 32,
    },
    "glm4_moe": {"model_type": "glm4_moe", **EXPERTS, "n_routed_experts": 16, "n_shared_experts": 1, "head_dim": 32},
    "deepseek_v2": {"model_type": "deepseek_v2", **EXPERTS, **LATENT, "num_key_value_heads": 8, "n_routed_experts": 16},
    "deepseek_v3": {
        "model_type": "deepseek_v3",
        **EXPERTS,
        **LATENT,
        "num_key_value_heads": 8,
        "n_routed_experts": 16,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
}


class Model:
    """A model of one config with random weights, whose FLOPs are counted."""

    def __init__(self, config: dict[str, Any]) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(0)
        made = AutoConfig.for_model(**config)
        one_by_one = {"experts_implementation": "eager"} if "num_experts_per_tok" in config else {}
        self.model = AutoModelForCausalLM.from_config(made, **one_by_one).eval()
        self.config = {key: value for key, value in made.to_dict().items() if _kept(key, value)}

    def count(self, how: str, prompt: int, output: int) -> int:
        """FLOPs of one request."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self._steps(prompt, output) if how == "steps" else self._whole(prompt, output)
        return int(counter.get_total_flops())

    def _steps(self, prompt: int, output: int) -> None:
        cache = None
        for at in range(prompt + output - 1):
            cache = self._feed(self.model if at >= prompt - 1 else self.model.base_model, 1, cache)

    def _whole(self, prompt: int, output: int) -> None:
        cache = self._feed(self.model, prompt, None, logits_to_keep=1)
        for _ in range(output - 1):
            cache = self._feed(self.model, 1, cache)

    def _feed(self, model: Any, tokens: int, cache: Any, **more: Any) -> Any:
        import torch

        given = torch.randint(0, SHAPE["vocab_size"], (1, tokens))
        return model(given, past_key_values=cache, use_cache=True, **more).past_key_values


def _kept(key: str, value: Any) -> bool:
    """Whether a config's entry is one of the numbers, or kinds of layers, that describe an architecture."""
    lists = isinstance(value, list) and bool(value) and isinstance(value[0], str) and key.endswith("_types")
    return key == "model_type" or lists or (isinstance(value, int) and not key.endswith("_token_id"))


def surplus(model: Architecture, how: str, prompt: int, output: int) -> int:
    """FLOPs that are run and counted beyond those that a request needs."""
    first = prompt if how == "whole" else 1  # positions fed at once
    triangle, near = first * (first + 1) // 2, min(first, model.window)
    band = near * (near + 1) // 2 + (first - near) * near
    full = model.layers - model.window_layers
    unmasked = full * (first * first - triangle) + model.window_layers * (first * first - band)
    latent = model.latent
    if latent is None:
        return 2 * model.heads * 2 * model.head_dim * unmasked
    expanded = model.layers * 2 * latent.kv_rank * model.heads * (latent.nope + latent.value)
    again = sum(range(first, prompt + output - 1))  # at every further step, all positions before
    return 2 * model.heads * (latent.nope + latent.rope + latent.value) * unmasked + expanded * again


def counted(config: dict[str, Any], name: str, asked: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """What torch counts for a model, request by request."""
    model = Model(config)
    architecture = from_config(model.config, name, name).architecture
    requests = [
        {
            "how": how,
            "prompt_tokens": prompt,
            "output_tokens": output,
            "counted": model.count(how, prompt, output),
            "surplus": surplus(architecture, how, prompt, output),
        }
        for how in ("steps", "whole")
        for prompt, output in asked
    ]
    return {"config": model.config, "requests": requests}


def errors(found: dict[str, Any], name: str) -> list[float]:
    """How far our count is from torch's, request by request: fractions."""
    flops = flops_of(from_config(found["config"], name, name).architecture)
    return [
        abs(
            forward_flops(flops, each["prompt_tokens"], each["output_tokens"]) / (each["counted"] - each["surplus"]) - 1
        )
        for each in found["requests"]
    ]


def golden(models: dict[str, Any]) -> str:
    """The file that tests without torch compare with: a line a config, and one a request."""
    import torch
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    lines = [f'{{"versions": {json.dumps(versions)},', '"models": {']
    for name, found in models.items():
        requests = [json.dumps(each) for each in found["requests"]]
        lines += [f"{json.dumps(name)}: {{", f' "config": {json.dumps(found["config"])},', ' "requests": [']
        lines += [f"  {each}," for each in requests[:-1]] + [f"  {requests[-1]}]}},"]
    return "\n".join([*lines[:-1], lines[-1].removesuffix(","), "}}"]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Count, compare, and with --write keep what was counted; 0 when every claim holds, 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"renew {GOLDEN.relative_to(ROOT)}")
    parser.add_argument("--short", action="store_true", help=f"{len(SHORT)} requests of {len(REQUESTS)}")
    options = parser.parse_args(argv)
    if options.write and options.short:
        parser.error("--write keeps all requests: without --short")
    claims, began = Claims("flops"), time.monotonic()
    models = {}
    for name, config in CONFIGS.items():
        models[name] = counted(config, name, SHORT if options.short else REQUESTS)
        worst = max(errors(models[name], name))
        claims.claim(f"{name}: within {WITHIN:.0%} of torch's counter", worst <= WITHIN, f"at most {worst:.3%} off")
    if options.write:
        GOLDEN.write_text(golden(models), encoding="utf-8")
    requests = sum(len(each["requests"]) for each in models.values())
    return claims.finish(f"{requests} requests to {len(models)} architectures in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
