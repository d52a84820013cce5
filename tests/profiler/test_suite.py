"""Suites of models: what ships, what one writes oneself, and the small likeness of each."""

import json
from pathlib import Path
from typing import Any

import pytest

from profiler.architectures import architectures
from profiler.config import ArchitectureError
from profiler.depths import bytes_of, pattern
from profiler.shapes import Shape, of_config, shape
from profiler.suite import small, suite, suites

MODERN = suite("modern")


def test_what_people_run_today_is_there_cheapest_first() -> None:
    assert suites() == ("modern",)
    names = [each.name.rpartition("/")[2] for each in MODERN]
    assert sorted(names) == [
        "deepseek-v3",
        "gemma-3-27b",
        "gpt-oss-120b",
        "gpt-oss-20b",
        "llama-3.1-405b",
        "llama-3.1-70b",
        "llama-3.1-8b",
        "mistral-7b-v0.3",
        "mixtral-8x7b",
        "qwen3-235b-a22b",
        "qwen3-32b",
        "qwen3-8b",
    ]
    totals = [each.architecture.total_parameters() for each in MODERN]
    assert totals == sorted(totals)
    assert {each.name for each in MODERN} <= architectures().keys()


@pytest.mark.parametrize("whole", MODERN, ids=lambda each: each.name)
def test_numbers_are_public_and_whole(whole: Shape) -> None:
    assert whole.architecture.source.startswith("https://huggingface.co/")
    assert whole.architecture.weights == "bf16"
    assert not whole.notes


@pytest.mark.parametrize("name", architectures())
def test_a_small_likeness_has_the_same_family_and_pattern(name: str) -> None:
    whole = shape(name)
    found = small(whole)
    model, like = whole.architecture, found.architecture
    assert found.name == f"{whole.name}-small"
    assert found.config["model_type"] == whole.config["model_type"]
    assert (like.hidden, like.vocabulary, like.heads) == (256, 2000, 8)
    assert 4 <= like.layers <= 10
    assert pattern(found.config).period == pattern(whole.config).period
    assert pattern(found.config).lead == pattern(whole.config).lead
    assert bool(like.experts) == bool(model.experts)
    if like.experts and model.experts:
        assert (like.experts.count, like.experts.active) == (8, min(2, model.experts.active))
    assert (like.layer_norms, like.gated, like.parallel, like.tied) == (
        model.layer_norms,
        model.gated,
        model.parallel,
        model.tied,
    )
    assert 1 <= like.kv_heads <= 8
    if model.heads // model.kv_heads in (1, 2, 4, 8):
        assert like.heads / like.kv_heads == model.heads / model.kv_heads
    assert 0 < bytes_of(found.config, "float32", 1) < 80e6


def test_a_small_likeness_drops_what_does_not_fit_it() -> None:
    config = {"model_type": "phi3", "num_hidden_layers": 6, "hidden_size": 3072, "num_attention_heads": 32}
    config |= {"intermediate_size": 8192, "vocab_size": 32_064, "pad_token_id": 32_000}
    config |= {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1.0] * 48}}
    found = small(of_config(config, "maker/phi", "given")).config
    assert (found["pad_token_id"], "rope_scaling" in found) == (None, False)


def written(directory: Path, content: Any) -> str:
    """The path of a file with that content."""
    file = directory / "mine.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def test_a_suite_of_one_s_own(tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 8}
    config |= {"intermediate_size": 192, "vocab_size": 100}
    models = {"mine": {"config": config}, "theirs": {"arch": "llama-3.1-8b"}}
    first, second = suite(written(tmp_path, {"models": models}))
    assert (first.name, first.config) == ("mine", config)
    assert (second.name, second.config) == ("theirs", shape("llama-3.1-8b").config)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("no JSON", "expected a suite, a JSON file"),
        ([], "expected a suite: "),
        ({"models": {}}, "expected a suite: "),
        ({"models": {"mine": 1}}, r"mine: expected {\"config\": "),
        ({"models": {"mine": {"config": {"model_type": "llama"}}}}, "mine: no num_hidden_layers"),
        ({"models": {"mine": {"arch": "nobody"}}}, "--arch 'nobody': no shipped model"),
    ],
    ids=["no-json", "no-object", "no-models", "no-entry", "no-layers", "no-such-model"],
)
def test_a_suite_that_cannot_be_read_is_one_line(tmp_path: Path, content: Any, expected: str) -> None:
    with pytest.raises(ArchitectureError, match=expected) as refused:
        suite(written(tmp_path, content))
    assert "\n" not in str(refused.value)


def test_a_suite_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ArchitectureError, match=r"^--suite 'ancient': expected modern, or a .json file$"):
        suite("ancient")
    with pytest.raises(ArchitectureError, match=r"^missing.json: cannot be read"):
        suite("missing.json")
