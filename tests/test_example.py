"""The example of strategies: it runs, and what it runs on is what it says it is."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.strategies import train
from examples.strategies.measure import STACK
from examples.strategies.model import CONTEXT, END, MODELS, WORDS, Model, Shape, decode, encode, load, log_softmax
from examples.strategies.server import BadRequest, completion
from examples.strategies.sums import answer_of, problems, question, right, solution

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "examples" / "strategies"
SECONDS = 300  # on a busy machine

MODELS_LOADED = {name: load(name) for name in MODELS}


# --- start to end


def test_the_example_runs(tmp_path: Path) -> None:
    """Two models, a real gateway, every strategy; and the gateway says what the recorded events say."""
    command = [sys.executable, "-m", "examples.strategies.run", "--short", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert re.search(r"^the page, while this runs: http://127\.0\.0\.1:\d+$", done.stdout, re.MULTILINE)
    assert "the gateway says the same" in done.stdout
    check(json.loads((tmp_path / "out" / "strategies.json").read_bytes()))
    assert f"drawn: {tmp_path / 'out' / 'strategies.html'}\n" in done.stdout
    assert "Pareto frontier" in (tmp_path / "out" / "strategies.html").read_text()


def check(found: dict[str, Any]) -> None:
    """Everything was counted, nothing is unknown, and samples are worth something."""
    assert found["stack"] == STACK
    assert (found["problems"], found["judged"], found["failed"]) == (24, 24, 0)
    assert (found["ambiguous"], found["without_requests"]) == (0, 0)
    by_name = {(each["model"], each["strategy"]): each for each in found["strategies"]}
    for model in MODELS:
        greedy, voted = by_name[model, "greedy"], by_name[model, "majority@16"]
        assert (greedy["requests"], greedy["samples"], voted["requests"], voted["samples"]) == (24, 24, 24, 384)
        assert voted["accuracy"] >= greedy["accuracy"]
        assert voted["measures"]["flops"]["total"] > 5 * greedy["measures"]["flops"]["total"]
        assert by_name[model, "tree@4"]["requests"] > 24
    for each in found["strategies"]:
        for name in ("flops", "idealized_seconds", "dedicated_dollars", "dedicated_energy_joules"):
            assert each["measures"][name]["unknown_requests"] == 0
            assert each["measures"][name]["total"] > 0
    assert any(each["measures"]["flops"]["pareto"] for each in found["strategies"])


# --- the problems


@given(st.integers(1, 8), st.randoms())
def test_all_ways_lead_to_the_answer(digits: int, dice: Any) -> None:
    asked = question(dice, digits)
    worked_out = solution(dice, asked)
    assert right(asked, answer_of(worked_out) if digits > 1 else asked)
    assert len(worked_out.split(" = ")) == max(digits - 1, 1)


def test_a_guess_is_often_wrong() -> None:
    dice = random.Random(1)
    guesses = {solution(dice, "2 7", {(2, 7)}) for _ in range(200)}
    assert guesses == set("0123456789")
    assert {solution(dice, "7 3", {(2, 7)}) for _ in range(20)} == {"0"}


@pytest.mark.parametrize(
    ("text", "answer"), [("", None), ("7 1 4", None), ("7 1 = 8", "8"), ("8", "8"), ("7 1 = ", None), ("8 =", None)]
)
def test_answers(text: str, answer: str | None) -> None:
    assert answer_of(text) == answer


def test_problems_are_the_same_each_time() -> None:
    assert problems(30, 6) == problems(30, 6)
    assert len(set(problems(30, 6).values())) == 30
    assert set(problems(10, 6)) < set(problems(30, 6))


# --- the models


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_small_and_say_where_they_come_from(name: str) -> None:
    path = PACKAGE / "weights" / f"{name}.npz"
    assert path.stat().st_size < 300_000
    with np.load(path) as file:
        about = " ".join(map(str, file["about"]))
    assert "examples/strategies/train.py" in about
    assert f"{train.STEPS[name]} steps of {train.BATCH} texts, seed {train.SEED}" in about
    assert MODELS_LOADED[name].shape == MODELS[name]


@pytest.mark.parametrize("name", MODELS)
def test_what_is_generated_is_what_the_model_finds_likely(name: str) -> None:
    """Token by token with a cache, or all at once without, as in training: the same probabilities."""
    model, prompt = MODELS_LOADED[name], encode("7 2 9 4 1 5 =")
    for sample in model.generate(prompt, choices=3, temperature=1.0, seed=4):
        text = np.array([[*prompt, *sample.tokens, END]])
        learned = np.zeros((1, text.shape[1] - 1), np.float32)
        learned[:, len(prompt) - 1 : -1] = 1 / len(sample.tokens)
        found, _ = train.loss(model.shape, dict(model.weights), text, learned)
        assert -np.mean(sample.log_probabilities) == pytest.approx(found, rel=1e-4)


def test_gradients_are_those_of_the_loss() -> None:
    shape, dice = Shape(2, 8, 2, 12), np.random.default_rng(0)
    weights: Any = {name: weight.astype(np.float64) for name, weight in train.initial(shape, dice).items()}
    text, learned = train.batch(random.Random(0), ())
    _, gradients = train.loss(shape, weights, text, learned)
    for name, weight in weights.items():
        place = tuple(np.unravel_index(np.argmax(np.abs(gradients[name])), weight.shape))
        ends = []
        for step in (1e-8, -2e-8):  # small: the feed-forward has kinks
            weight[place] += step
            ends.append(train.loss(shape, weights, text, learned)[0])
        weight[place] += 1e-8
        assert (ends[0] - ends[1]) / 2e-8 == pytest.approx(gradients[name][place], rel=1e-4)


def test_training_learns() -> None:
    shape, dice = Shape(1, 16, 2, 32), random.Random(0)
    weights = train.initial(shape, np.random.default_rng(0))
    optimizer, losses = train.Adam(weights), []
    for _ in range(60):
        found, gradients = train.loss(shape, weights, *train.batch(dice, ()))
        optimizer.step(gradients, train.RATE)
        losses.append(found)
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_generation_ends_where_it_should() -> None:
    model = MODELS_LOADED["sums-small"]
    (short,) = model.generate(encode("7 2 9 4 1 5 ="), longest=3)
    assert (len(short.tokens), short.generated, short.finish_reason) == (3, 3, "length")
    (step,) = model.generate(encode("7 2 9 4 1 5 ="), stop=(END, WORDS.index("=")))
    assert (len(step.tokens), step.generated, step.finish_reason) == (5, 6, "stop")
    (full,) = model.generate([1] * (CONTEXT - 2), stop=())
    assert full.finish_reason == "length"
    assert len(full.log_probabilities) == len(full.tokens) == 2


def test_words() -> None:
    assert decode(encode("7  2 = 9")) == "7 2 = 9"
    with pytest.raises(ValueError):
        encode("7 + 2")
    assert np.exp(log_softmax(np.array([1.0, 2.0, 3.0], np.float32))).sum() == pytest.approx(1)


# --- the server


def asked(**more: Any) -> dict[str, Any]:
    return {"model": "sums-small", "messages": [{"role": "user", "content": "7 2 9 4 1 5"}], **more}


def reply(**more: Any) -> dict[str, Any]:
    return completion(MODELS_LOADED, asked(**more))


def contents(found: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in found["choices"]]


def test_a_completion() -> None:
    found = reply(temperature=0, logprobs=True)
    (choice,) = found["choices"]
    tokens = choice["logprobs"]["content"]
    assert " ".join(token["token"] for token in tokens) == choice["message"]["content"]
    assert all(token["logprob"] <= 0 for token in tokens)
    assert found["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": len(tokens) + 1,
        "total_tokens": len(tokens) + 8,
    }


def test_choices_and_seeds() -> None:
    found = contents(reply(n=8, seed=5))
    assert len(set(found)) > 1
    assert contents(reply(n=8, seed=5)) == found
    assert contents(reply(n=8, seed=6)) != found
    assert reply(n=8, seed=5)["choices"][0]["logprobs"] is None


def test_an_answer_is_continued_where_it_stopped() -> None:
    (whole,) = contents(reply(temperature=0))
    (step,) = contents(reply(temperature=0, stop=[" = "]))
    assert whole.startswith(f"{step} = ")
    begun = [*asked()["messages"], {"role": "assistant", "content": f"{step} = "}]
    assert contents(reply(temperature=0, messages=begun)) == [whole.removeprefix(f"{step} = ")]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "model: expected one of sums-"),
        (asked(model="gpt-5"), "model: expected one of sums-"),
        (asked(messages=[]), "messages: expected a question"),
        (asked(messages="7 2"), "messages: expected a question"),
        (asked(messages=[{"role": "assistant", "content": "7"}]), "messages: expected a question"),
        (asked(messages=[{"role": "user", "content": "7 + 2"}]), "messages: expected a question"),
        (asked(messages=[{"role": "user", "content": "7 " * 40}]), "messages: 41 tokens; the model has room for 32"),
        (asked(stop=["x"]), "stop: expected words"),
        (asked(stop=3), "stop: expected words"),
        (asked(n=0), "n: expected a number from 1 to 64"),
        (asked(n="2"), "n: expected a number from 1 to 64"),
        (asked(temperature=3), "temperature: expected a number from 0 to 2"),
        (asked(seed=-1), "seed: expected a number"),
    ],
)
def test_what_the_server_refuses(body: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(said)):
        completion(MODELS_LOADED, body)


def test_the_helper_needs_nothing_of_the_rest() -> None:
    """What is copied into other projects imports the standard library alone."""
    text = (PACKAGE / "strategies.py").read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
    assert imported <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_files_are_short(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= 400


def test_models_differ_in_size() -> None:
    sizes = {name: sum(weight.size for weight in model.weights.values()) for name, model in MODELS_LOADED.items()}
    assert sizes["sums-large"] > 2 * sizes["sums-small"]
    assert isinstance(MODELS_LOADED["sums-large"], Model)
