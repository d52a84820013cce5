"""Transformers with random weights in this process, as machines to be measured: the one module that needs torch.

Weights are made where they are used, and nothing is downloaded: how long a step takes does not depend on their values
(but which experts tokens choose does; random routers spread them evenly). A run encodes a prompt at once, then gives
token by token, each the likeliest after the one before, with a static cache of keys and values: there is no sampling,
no tokenizer and no server in it.

Eager, it is transformers' own `generate`, whose host waits for every token; the cache holds exactly the run's tokens.
Compiled, a step over one token is compiled by `torch.compile` and, on a GPU, captured in a CUDA graph; the prompt is
not. Such a step reads its whole cache, whose length is the next power of two: a compiled step is made for one length.
Of mixtures a prompt's experts are computed in groups and a further token's in a batch, as `generate` does.

On a GPU times are those of CUDA events around the work.
"""

import copy
import gc
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, StaticCache, StoppingCriteria
from transformers.cache_utils import StaticSlidingWindowLayer

from profiler.machine import MachineError, Run

__all__ = [
    "Transformer",
    "board_id",
    "checked_device",
    "default_dtype",
    "describe_board",
    "room_bytes",
    "software",
]

transformers.logging.set_verbosity_error()

_SHORTEST_CACHE = 256  # tokens, of a compiled step
_MANY = 1000
_WARM_STEPS = 3  # before a capture: they compile, and make room
_GPU_SHARE, _HOST_SHARE = 0.85, 0.5  # of a memory: the rest is for activations, and on a host for others
_TOGETHER, _ONE_BY_ONE = "grouped_mm", "batched_mm"  # of experts: a batch copies the weights of every token's
_IDLE = 0.3  # seconds after which a GPU may have lowered its clocks,
_BUSY = 0.2  # and those of work that raise them again


class Transformer:
    """A causal language model of a Hugging Face config, on one device: a `Machine`.

    `config` has a `model_type` and its fields; `dtype` is a name of torch's ("bfloat16"). MachineError where
    transformers cannot make it, or where the memory does not suffice.
    """

    def __init__(
        self, config: Mapping[str, Any], *, dtype: str, device: str, compiled: bool = False, seed: int = 0
    ) -> None:
        """Make the model with random weights, on the device."""
        self.device = torch.device(device)
        self.compiled = compiled
        with _one_line(f"a model of type {config.get('model_type')!r} on {device}"):
            torch.manual_seed(seed)
            made = AutoConfig.for_model(**config)
            with self.device:
                self.model: Any = AutoModelForCausalLM.from_config(made, dtype=getattr(torch, dtype)).eval()
            self.model.generation_config.eos_token_id = None  # a run ends after its tokens
        self._steps: dict[int, _Compiled] = {}
        self._ran = 0.0

    def shallow(self, config: Mapping[str, Any]) -> "Transformer":
        """The same with its first layers only, as `config` says, which are shared: that takes no memory."""
        made = AutoConfig.for_model(**config)
        for name in ("_attn_implementation", "_experts_implementation"):
            setattr(made, name, getattr(self.model.config, name, None))
        found, part, inner = copy.copy(self), copy.copy(self.model), copy.copy(self.model.base_model)
        for module in (part, inner):
            vars(module)["_modules"] = dict(vars(module)["_modules"])  # of its own, the modules in it shared
        inner.layers = self.model.base_model.layers[: made.num_hidden_layers]
        inner.config = part.config = made
        setattr(part, self.model.base_model_prefix, inner)
        for name in ("get_experts_implementation", "set_experts_implementation"):
            # What is shared goes by the configuration that it was made with.
            vars(part)[name] = getattr(self.model, name)
        vars(found).update(model=part, _steps={})
        return found

    def run(self, prompt_tokens: int, output_tokens: int) -> Run:
        """Encode random tokens, and give so many more."""
        vocabulary = self.model.config.get_text_config().vocab_size
        prompt = torch.randint(vocabulary, (1, prompt_tokens), device=self.device)
        with _one_line(f"a run of {prompt_tokens} + {output_tokens} tokens on {self.device}"), torch.inference_mode():
            step = self._runner(prompt_tokens + output_tokens)
            step.prepare(prompt)
            self._raise_clocks()
            clock = _clock(self.device)
            step.run(prompt, output_tokens, clock)
            start, first, end = clock.seconds()
        self._ran = time.monotonic()
        return Run(prompt_tokens, output_tokens, first - start, (end if output_tokens > 1 else first) - start)

    def close(self) -> None:
        """Free the memory."""
        self._steps.clear()
        del self.model
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _runner(self, tokens: int) -> "_Generate | _Compiled":
        if not self.compiled:
            return _Generate(self.model, tokens)
        length = max(_SHORTEST_CACHE, 1 << (tokens - 1).bit_length())
        if length not in self._steps:
            self._steps[length] = _Compiled(self.model, length, self.device)
        return self._steps[length]

    def _raise_clocks(self) -> None:
        """An idle GPU lowers its clocks, and takes a while of work to raise them."""
        if self.device.type != "cuda" or time.monotonic() - self._ran < _IDLE:
            return
        some, end = torch.randn(2048, 2048, device=self.device), time.monotonic() + _BUSY
        while time.monotonic() < end:
            torch.mm(some, some)
            torch.cuda.synchronize()


class _Generate:
    """Eager runs by transformers' own `generate`, greedy, with a static cache of so many tokens."""

    def __init__(self, model: Any, tokens: int) -> None:
        self.model = model
        self.cache = StaticCache(config=model.config, max_cache_len=tokens)

    def prepare(self, prompt: Any) -> None:
        """Nothing is made before an eager run."""

    def run(self, prompt: Any, output_tokens: int, clock: "_HostClock | _DeviceClock") -> None:
        """Mark the start, the first token and the last."""
        first = _FirstToken(clock)
        clock.mark()
        self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            past_key_values=self.cache,
            max_new_tokens=output_tokens,
            do_sample=False,
            stopping_criteria=[first],
            disable_compile=True,
        )
        clock.mark()


class _FirstToken(StoppingCriteria):  # type: ignore[misc]
    """Is asked after every token whether it is the last, and only marks the first."""

    def __init__(self, clock: "_HostClock | _DeviceClock") -> None:
        self._clock, self._seen = clock, False

    def __call__(self, input_ids: Any, scores: Any, **more: Any) -> Any:  # noqa: ARG002 - as it is called
        if not self._seen:
            self._seen = True
            self._clock.mark()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class _Compiled:
    """Runs of which further tokens are compiled for this length of the cache, and on a GPU captured in a graph.

    All that changes from token to token (the token, its position, the masks) is made on the device from tensors that
    stay where they are: so one graph serves every position.
    """

    def __init__(self, model: Any, tokens: int, device: torch.device) -> None:
        self.model = model
        self.cache = StaticCache(config=model.config, max_cache_len=tokens)
        kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
        self._window = min(tokens, getattr(model.config.get_text_config(), "sliding_window", None) or tokens)
        self._both = len(set(kinds)) > 1
        for place, layer in enumerate(self.cache.layers):
            if isinstance(layer, StaticSlidingWindowLayer):
                self.cache.layers[place] = _Ring(max_cache_len=tokens, sliding_window=self._window)
        self._tokens, self._device = tokens, device
        self._all_slide = not self._both and any(isinstance(layer, _Ring) for layer in self.cache.layers)
        self.token = torch.zeros((1, 1), dtype=torch.long, device=device)
        self._position = torch.zeros((1, 1), dtype=torch.long, device=device)
        limits = torch._dynamo.config  # noqa: SLF001 - public by its documentation
        limits.recompile_limit = _MANY  # steps of many lengths and models are compiled,
        limits.fail_on_recompile_limit_hit = True  # and none is to be eager without a word
        self._fast = torch.compile(self._forward, fullgraph=True, dynamic=False)
        self._graph: Any = None
        self._ready = False

    def prepare(self, prompt: Any) -> None:
        """Compile and capture, the first time, so that no run holds the time of that; and empty the cache."""
        if not self._ready:
            self._ready = True
            self._warm(prompt[:, : self._tokens - _WARM_STEPS - 1])
        _compute_experts(self.model, _TOGETHER)
        self.cache.reset()

    def run(self, prompt: Any, output_tokens: int, clock: "_HostClock | _DeviceClock") -> None:
        """Mark the start, the first token and the last."""
        clock.mark()
        self._first(prompt)
        clock.mark()
        for _ in range(output_tokens - 1):
            self._further()
        clock.mark()

    def _first(self, prompt: Any) -> None:
        """Encode a prompt, eagerly."""
        logits = self.model(input_ids=prompt, past_key_values=self.cache, use_cache=True, logits_to_keep=1).logits
        self.token.copy_(logits[:, -1].argmax(-1, keepdim=True))
        self._position.fill_(prompt.shape[1])

    def _further(self) -> None:
        """Replay the graph, or call what was compiled."""
        if self._graph is not None:
            self._graph.replay()
        else:
            _compute_experts(self.model, _ONE_BY_ONE)
            self._once()

    def _warm(self, prompt: Any) -> None:
        _compute_experts(self.model, _TOGETHER)
        self.cache.reset()
        self._first(prompt)
        _compute_experts(self.model, _ONE_BY_ONE)
        if self._device.type != "cuda":
            self._once()
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what a capture may not do is done before it
            for _ in range(_WARM_STEPS):
                self._once()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._once()

    def _once(self) -> None:
        self.token.copy_(self._fast(self.token, self._position))
        self._position.add_(1)

    def _forward(self, token: Any, position: Any) -> Any:
        logits = self.model(
            input_ids=token,
            position_ids=position,
            attention_mask=self._masks(position),
            past_key_values=self.cache,
            use_cache=True,
        ).logits
        return logits[:, -1].argmax(-1, keepdim=True)

    def _masks(self, position: Any) -> Any:
        """Which keys a token sees: all before it. A window that is full holds only those."""
        seen = (torch.arange(self._tokens, device=self._device) <= position[0, 0])[None, None, None, :]
        if getattr(self.model.config, "_attn_implementation", None) == "eager":
            least = torch.finfo(self.model.dtype).min
            seen = torch.where(seen, 0.0, least).to(self.model.dtype)
        windowed = seen[..., : self._window]
        if self._both:
            return {"full_attention": seen, "sliding_attention": windowed}
        return windowed if self._all_slide else seen


class _Ring(StaticSlidingWindowLayer):  # type: ignore[misc]
    """A window's keys as a ring, so that one graph serves all positions: they carry their rotation, and need no order.

    transformers' own goes by Python's count of the tokens, which a graph would not see change.
    """

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Keep the keys and values of a prompt, on an empty cache, or of one further token."""
        count = key_states.shape[-2]
        if count > 1:
            given: tuple[Any, Any] = super().update(key_states, value_states, *args, **kwargs)
            self.cumulative_length.fill_(count)
            if count > self.max_cache_len:
                for kept in (self.keys, self.values):
                    kept.copy_(kept.roll(count % self.max_cache_len, dims=2))
            return given
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        place = (self.cumulative_length % self.max_cache_len).view(1)
        self.keys.index_copy_(2, place, key_states)
        self.values.index_copy_(2, place, value_states)
        self.cumulative_length.add_(1)
        return self.keys, self.values


def _compute_experts(model: Any, how: str) -> None:
    """How a mixture's experts are computed on a GPU, as `generate` chooses it."""
    known = model.get_experts_implementation()[""]
    if model.device.type == "cuda" and known != how and known in {_TOGETHER, _ONE_BY_ONE}:
        model.set_experts_implementation(how)


def checked_device(name: str | None) -> str:
    """The device of that name, as torch calls it; None: the first GPU, or the processor. MachineError if it is none."""
    if name is None:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    with _one_line(f"--device {name}"):
        device = torch.device(name)
        torch.empty(1, device=device)
    return "cpu" if device.type == "cpu" else f"{device.type}:{device.index or 0}"


def default_dtype(device: str) -> str:
    """What models are kept in there: processors are made for 32 bits."""
    return "float32" if device == "cpu" else "bfloat16"


def room_bytes(device: str) -> float:
    """Memory that a model may take: a share of all that there is, the same every time."""
    if device != "cpu":
        return _GPU_SHARE * float(torch.cuda.get_device_properties(device).total_memory)
    return _HOST_SHARE * float(os.sysconf("SC_PAGE_SIZE")) * float(os.sysconf("SC_PHYS_PAGES"))


def board_id(device: str) -> str:
    """What the driver calls the board of a GPU: numbers of torch's need not be the driver's."""
    return str(torch.cuda.get_device_properties(device).uuid)


def describe_board(device: str) -> dict[str, Any]:
    """A GPU's name, memory and processors."""
    found = torch.cuda.get_device_properties(device)
    return {"name": found.name, "memory_bytes": found.total_memory, "processors": found.multi_processor_count}


def software(device: str, threads: int | None = None) -> dict[str, Any]:
    """What runs the models, by name and version. `threads`: how many a processor is to use, where that is given."""
    if threads is not None:
        torch.set_num_threads(threads)
    versions: dict[str, Any] = {"torch": torch.__version__, "transformers": transformers.__version__}
    if device == "cpu":
        return {**versions, "threads": torch.get_num_threads()}
    return {**versions, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


class _HostClock:
    """Moments of a processor, which has done its work when a call returns."""

    def __init__(self) -> None:
        self._moments: list[float] = []

    def mark(self) -> None:
        self._moments.append(time.perf_counter())

    def seconds(self) -> Sequence[float]:
        return self._moments


class _DeviceClock:
    """Moments of a GPU, which works long after a call has returned: events between its kernels."""

    def __init__(self) -> None:
        torch.cuda.synchronize()
        self._events: list[Any] = []

    def mark(self) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def seconds(self) -> Sequence[float]:
        self._events[-1].synchronize()
        return [self._events[0].elapsed_time(event) / 1e3 for event in self._events]


def _clock(device: torch.device) -> _HostClock | _DeviceClock:
    return _DeviceClock() if device.type == "cuda" else _HostClock()


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """What torch and transformers raise, as one line; what they warn of is not ours to print."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Exception as error:  # noqa: BLE001 - whatever it is, it is one line about a measurement
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
            raise MachineError(f"{what}: not enough memory: measure some of its layers (--layers)") from None
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise MachineError(f"{what}: {type(error).__name__}: {lines[0][:200]}") from None
