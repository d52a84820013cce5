"""Configs to build models from: those of shipped models say what their architectures say, and nothing is guessed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.architectures import Architecture, architectures
from profiler.config import ArchitectureError, from_config
from profiler.shape_families import config_of
from profiler.shapes import shape
from profiler.spec import written_out
from profiler.suite import suite

SHIPPED = architectures()
MODERN = {each.name: each for each in suite("modern")}
LLAMA = "layers=4,hidden=64,heads=8,ffn=192,vocabulary=100"


def numbers(model: Architecture) -> Architecture:
    """What decides how long a token takes: no names and published totals, and nothing that no layer has."""
    unnamed = replace(model, name="", source="", weights="bf16", parameters=0.0, active_parameters=None)
    return unnamed if model.dense_layers else replace(unnamed, ffn=0)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_becomes_a_config_that_says_the_same(name: str) -> None:
    found, wanted = shape(name), numbers(SHIPPED[name])
    described = numbers(from_config(found.config, name, name).architecture)
    assert found.config["model_type"]
    assert numbers(found.architecture) == described
    if name == "google/gemma-3-27b":  # its embedding has rows for pictures besides
        assert described.vocabulary - wanted.vocabulary == 64
        described = replace(described, vocabulary=wanted.vocabulary)
    assert described == wanted
    assert found.architecture.total_parameters() == pytest.approx(SHIPPED[name].parameters * 1e9, rel=0.015)


@pytest.mark.parametrize("name", MODERN)
def test_a_model_of_a_suite_is_the_same_by_its_name(name: str) -> None:
    assert shape(name) == MODERN[name]
    assert shape(name.rpartition("/")[2]).name == name
    assert (shape(name).longest or 0) >= 32_768


@pytest.mark.parametrize(
    ("more", "family"),
    [
        ("kv_heads=2", "llama"),
        ("kv_heads=2,head_dim=32,tied=true", "llama"),
        ("layer_norms=4", "qwen3"),
        ("window=16", "mistral"),
        ("window=16,window_layers=2", "ministral"),
        ("layer_norms=4,window=16,window_layers=3", "qwen3"),
        ("gated=false,parallel=true", "gpt_neox"),
        ("gated=false", "gpt_neox"),
        ("gated=false,kv_heads=2", "nemotron"),
        ("parallel=true,layer_norms=1,tied=true", "cohere"),
        ("experts=8,active=2", "mixtral"),
        ("experts=8,active=2,expert_ffn=32", "mixtral"),
        ("experts=8,active=2,expert_ffn=32,layer_norms=4,dense_layers=1", "qwen3_moe"),
        ("experts=8,active=2,expert_ffn=32,shared_ffn=64,dense_layers=1", "glm4_moe"),
        ("experts=8,active=2,expert_ffn=32,shared_ffn=48", "qwen2_moe"),
        (
            "q_rank=16,kv_rank=8,nope=8,rope=4,value=8,experts=8,active=2,expert_ffn=32,shared_ffn=32,dense_layers=1",
            "deepseek_v3",
        ),
    ],
)
def test_numbers_written_out_find_a_family_that_has_them(more: str, family: str) -> None:
    found = shape(f"{LLAMA},{more}")
    assert found.config["model_type"] == family
    assert found.name == "custom"
    again = from_config(found.config, "custom", "given").architecture
    assert again.total_parameters() == found.architecture.total_parameters()
    assert (again.window, again.window_layers) == (found.architecture.window, found.architecture.window_layers)


@pytest.mark.parametrize(
    "more",
    [
        "parallel=true",
        "gated=false,window=16",
        "gated=false,head_dim=32,parallel=true",
        "experts=8,active=2,dense_layers=1",
        "kv_rank=8,nope=8,rope=4,value=8",
    ],
)
def test_numbers_that_no_family_has_are_refused(more: str) -> None:
    with pytest.raises(ArchitectureError, match=r"^--arch custom: no family .* give its config.json$"):
        shape(f"{LLAMA},{more}")


flags = st.booleans().map(lambda each: str(each).lower())


@given(
    st.fixed_dictionaries(
        {"layers": st.integers(1, 40), "heads": st.sampled_from((4, 8)), "hidden": st.sampled_from((64, 128))},
        optional={
            "kv_heads": st.sampled_from((1, 2, 4)),
            "head_dim": st.sampled_from((16, 32)),
            "layer_norms": st.integers(1, 4),
            "window": st.integers(8, 64),
            "gated": flags,
            "tied": flags,
            "parallel": flags,
            "experts": st.just(8),
            "shared_ffn": st.sampled_from((0, 64, 100)),
            "dense_layers": st.just(1),
        },
    )
)
def test_whatever_is_written_out_is_built_as_written_or_refused(given: dict[str, Any]) -> None:
    if "experts" in given:
        given |= {"active": 2, "expert_ffn": 64}
    else:
        given.pop("shared_ffn", None), given.pop("dense_layers", None)
    spec = ",".join(f"{key}={value}" for key, value in {**given, "ffn": 192, "vocabulary": 100}.items())
    wanted = written_out(spec)
    config = config_of(wanted)
    if config is not None:
        assert numbers(from_config(config, "custom", spec).architecture) == numbers(wanted)


def test_what_transformers_does_otherwise_is_said() -> None:
    (note,) = shape("llama-4-scout-17b-16e").notes
    assert "all experts for every token" in note


# ---- config.json


def config_file(directory: Path, **config: Any) -> Path:
    """A config.json of a small Llama, or of something else."""
    file = directory / "config.json"
    plain = {"num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 8, "intermediate_size": 192}
    file.write_text(json.dumps({"model_type": "llama", "vocab_size": 100, **plain, **config}))
    return file


def test_a_config_is_taken_as_it_is(tmp_path: Path) -> None:
    file = config_file(
        tmp_path, rope_theta=5e5, attention_bias=True, _name_or_path="maker/model", torch_dtype="float16"
    )
    found = shape(str(file))
    assert found == shape(str(tmp_path))
    assert found.name == "maker/model"
    assert found.config == {
        "model_type": "llama",
        "vocab_size": 100,
        "num_hidden_layers": 4,
        "hidden_size": 64,
        "num_attention_heads": 8,
        "intermediate_size": 192,
        "rope_theta": 5e5,
        "attention_bias": True,
    }
    assert not found.notes


def test_how_a_checkpoint_keeps_its_weights_is_left_out_and_said(tmp_path: Path) -> None:
    found = shape(str(config_file(tmp_path, quantization_config={"quant_method": "nobody knows"})))
    assert "quantization_config" not in found.config
    assert found.architecture.weights == "bf16"
    assert found.notes == ("its quantisation is left out: weights are random, in the dtype that is measured",)


def test_of_a_model_that_reads_pictures_the_language_model_is_taken(tmp_path: Path) -> None:
    text = {"model_type": "gemma3_text", "num_hidden_layers": 12, "hidden_size": 128, "intermediate_size": 256}
    outer = {"tie_word_embeddings": False, "vision_config": {"hidden_size": 1152}, "quantization_config": {"bits": 4}}
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "gemma3", "text_config": {**text, "sliding_window": 32}, **outer}))
    found = shape(str(file))
    assert found.config == {**text, "sliding_window": 32, "tie_word_embeddings": False}
    assert (found.architecture.layers, found.architecture.window_layers, found.architecture.tied) == (12, 10, False)
    assert len(found.notes) == 1


def test_a_model_whose_code_is_another_s_is_built_as_that(tmp_path: Path) -> None:
    kimi = {**shape("moonshotai/kimi-k2").config, "model_type": "kimi_k2"}
    found = shape(str(config_file(tmp_path, **kimi)))
    assert found.config["model_type"] == "deepseek_v3"


def test_without_a_model_type_nothing_can_be_built(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"config.json: no model_type: expected that of a language model"):
        shape(str(config_file(tmp_path, model_type=None)))
    nested = {"num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 8, "vocab_size": 9}
    with pytest.raises(ArchitectureError, match=r"config.json: text_config: no model_type"):
        shape(str(config_file(tmp_path, text_config=nested)))


@pytest.mark.parametrize("spec", ["no-such-model", "layers=2", ""])
def test_what_means_nothing_is_refused(spec: str) -> None:
    with pytest.raises(ArchitectureError, match=r"^--arch "):
        shape(spec)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ArchitectureError, match=r"missing.json: cannot be read"):
        shape("missing.json")
