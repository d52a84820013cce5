"""What `--arch SPEC` means."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from profiler.architectures import Experts, LatentAttention, architectures
from profiler.config import ArchitectureError
from profiler.spec import KEYS, named, read_spec, written_out

MODELS = architectures()
LLAMA = "layers=32,hidden=4096,heads=32,kv_heads=8,ffn=14336,vocabulary=128256"
SIZES = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14_336,
    "vocab_size": 128_256,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_is_found_by_its_name(name: str) -> None:
    assert named(name) == MODELS[name]
    assert [each.architecture for each in read_spec(name)] == [MODELS[name]]
    assert named(name.rpartition("/")[2]) == MODELS[name]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/llama-3.1-8b"),
        ("llama-3.1-8b", "meta-llama/llama-3.1-8b"),
        ("Meta-Llama/Llama-3.1-8b", "meta-llama/llama-3.1-8b"),
        ("Qwen/Qwen3-32B", "qwen/qwen3-32b"),
        ("openai/gpt-oss-120b", "openai/gpt-oss-120b"),
        ("meta-llama/Llama-2-70b-hf", "meta-llama/llama-2-70b"),
    ],
)
def test_and_by_its_aliases(alias: str, name: str) -> None:
    assert named(alias).name == name


def test_all_are_all() -> None:
    assert [each.architecture for each in read_spec("all")] == list(MODELS.values())


def test_numbers_written_out_are_the_model_they_describe() -> None:
    shipped = MODELS["meta-llama/llama-3.1-8b"]
    found = written_out(LLAMA)
    assert found == replace(shipped, name="custom", parameters=0.0, source=f"numbers given: {LLAMA}")
    assert written_out(f"{LLAMA},name=mine").name == "mine"


def test_every_number_can_be_written_out() -> None:
    found = written_out(
        "layers=61 hidden=7168 heads=128 ffn=18432 vocabulary=129280 gated=TRUE tied=no parallel=1 window=100"
        " layer_norms=4 experts=256 active=8 expert_ffn=2048 shared_ffn=2048 dense_layers=3"
        " q_rank=1536 kv_rank=512 nope=128 rope=64 value=128 weights=fp8"
    )
    deepseek = MODELS["deepseek-ai/deepseek-v3"]
    assert (found.experts, found.latent) == (deepseek.experts, deepseek.latent)
    assert (found.kv_heads, found.head_dim, found.weights) == (128, 128, "fp8")
    assert (found.window, found.window_layers, found.parallel, found.tied, found.gated) == (100, 61, True, False, True)
    assert found.total_parameters() == deepseek.total_parameters()


def test_what_is_left_out_goes_without_saying() -> None:
    found = written_out("layers=2,hidden=64,heads=4,ffn=256,vocabulary=100,gated=false,experts=8,active=2")
    assert (found.kv_heads, found.head_dim, found.gated) == (4, 16, False)
    assert found.experts == Experts(count=8, active=2, ffn=256)
    latent = written_out("layers=2,hidden=64,heads=4,ffn=256,vocabulary=100,kv_rank=8,nope=4,rope=2,value=4").latent
    assert latent == LatentAttention(q_rank=0, kv_rank=8, nope=4, rope=2, value=4)


def test_a_file_and_its_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **SIZES}), encoding="utf-8")
    for spec in (str(tmp_path), str(tmp_path / "config.json")):
        [found] = read_spec(spec, "int4")
        assert (found.architecture.parameters, found.architecture.weights) == (8.03, "int4")
        assert found.architecture.name == tmp_path.name


WRONG = {
    "near": ("llama-3.1-9b", "no shipped model, no file and no numbers; there are llama-3.1-8b"),
    "nothing-like-it": ("zzzzzz", "no shipped model, no file and no numbers (see"),
    "published-row": ("openai/davinci", "no shipped model"),
    "no-file": ("there/config.json", "there/config.json: cannot be read: No such file"),
    "key": ("layers=2,depth=3", "--arch 'depth=3': expected key=value, the key one of layers, hidden"),
    "twice": ("layers=2,layers=3", "--arch 'layers=3': twice"),
    "no-value": ("layers=2,hidden", "--arch 'hidden': expected key=value"),
    "missing": ("layers=2,hidden=64", "missing heads=, ffn=, vocabulary="),
    "zero": ("layers=0", "--arch layers: expected a whole number, 1 or more, found '0'"),
    "text": ("layers=many", "--arch layers: expected a whole number, 1 or more, found 'many'"),
    "digits": ("layers=٣", "--arch layers: expected a whole number"),
    "flag": (f"{LLAMA},gated=maybe", "--arch gated: expected true or false, found 'maybe'"),
    "experts": (f"{LLAMA},experts=8", "experts need experts= and active="),
    "latent": (f"{LLAMA},kv_rank=512", "latent attention needs nope=, rope=, value= too"),
    "kv-heads": ("layers=2,hidden=64,heads=4,kv_heads=8,ffn=9,vocabulary=9", "key-value heads: expected no more than"),
    "active": (f"{LLAMA},experts=8,active=9", "active experts: expected no more than experts, 8, found 9"),
    "dense": (
        f"{LLAMA},experts=8,active=2,dense_layers=33",
        "dense layers: expected no more than layers, 32, found 33",
    ),
    "empty": ("", "no shipped model"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_on_one_line(name: str) -> None:
    spec, expected = WRONG[name]
    with pytest.raises(ArchitectureError) as caught:
        read_spec(spec)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_are_named_in_the_help() -> None:
    from profiler.predict_command import _DESCRIPTION

    assert all(key in _DESCRIPTION for key in KEYS)
