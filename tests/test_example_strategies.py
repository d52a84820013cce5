"""The client helper of the example: who wins a vote, and what is asked of a server."""

import itertools
import json
import math
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.strategies.strategies import (
    Client,
    Sample,
    StrategyError,
    allocate,
    best,
    likelihood,
    majority,
    weighted,
)

# --- deciding

ANSWERS = st.lists(st.none() | st.sampled_from(["4", "5", "12", "no"]), max_size=12)
WEIGHTS = st.floats(0.001, 1000)
VOTES = st.lists(st.tuples(st.none() | st.sampled_from(["4", "5", "12"]), WEIGHTS), max_size=12)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], None),
        ([None, None], None),
        (["4"], "4"),
        (["5", "4", "5"], "5"),
        (["5", "4"], "4"),  # a tie: the first in the alphabet
        (["4", "12", "12", "4", "5"], "12"),
        ([None, None, None, "7"], "7"),  # no answer is no vote
    ],
)
def test_majority(answers: list[str | None], expected: str | None) -> None:
    assert majority(answers) == expected


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([], None),
        ([("4", 0.9), ("5", 0.5), ("5", 0.5)], "5"),
        ([("4", 0.9), ("5", 0.4), ("5", 0.4)], "4"),
        ([("5", 0.1), ("5", 0.2), ("4", 0.30000000000000004)], "4"),  # 0.1 + 0.2: added exactly, then rounded; a tie
        ([(None, 9.0), ("4", 0.0)], "4"),
    ],
)
def test_weighted(votes: list[tuple[str | None, float]], expected: str | None) -> None:
    assert weighted(votes) == expected


@pytest.mark.parametrize(
    ("scored", "expected"),
    [
        ([], None),
        ([(None, 1.0)], None),
        ([("4", 0.2), ("5", 0.3), ("4", 0.2)], "5"),
        ([("5", 0.3), ("4", 0.3)], "4"),
        ([(None, 0.9), ("4", 0.0)], "4"),
    ],
)
def test_best(scored: list[tuple[str | None, float]], expected: str | None) -> None:
    assert best(scored) == expected


@given(VOTES, st.randoms())
def test_no_order_matters(votes: list[tuple[str | None, float]], dice: Any) -> None:
    turned = dice.sample(votes, len(votes))
    assert weighted(turned) == weighted(votes)
    assert best(turned) == best(votes)
    assert majority(answer for answer, _ in turned) == majority(answer for answer, _ in votes)


@given(ANSWERS, WEIGHTS)
def test_equal_weights_are_a_majority(answers: list[str | None], weight: float) -> None:
    assert weighted((answer, weight) for answer in answers) == majority(answers)


@given(ANSWERS)
def test_a_majority_has_the_most_votes(answers: list[str | None]) -> None:
    found = majority(answers)
    assert all(answers.count(found) >= answers.count(each) for each in answers if each is not None)
    assert (found is None) == (not any(answers))


@given(VOTES, st.data())
def test_a_better_score_never_hurts_its_answer(votes: list[tuple[str | None, float]], data: Any) -> None:
    """Best-of-n and weighted voting are monotone: raise the score of the winner, and it still wins."""
    for decide in (best, weighted):
        winner = decide(votes)
        places = [place for place, (answer, _) in enumerate(votes) if answer == winner]
        if winner is None:
            continue
        place = data.draw(st.sampled_from(places))
        raised = [(answer, weight + (number == place)) for number, (answer, weight) in enumerate(votes)]
        assert decide(raised) == winner


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.integers(0, 64))
def test_an_allocation_spends_the_budget_on_the_better(scores: list[float], budget: int) -> None:
    shares = allocate(scores, budget)
    assert sum(shares) == budget
    assert min(shares) >= 0
    for (score, share), (other, less) in itertools.combinations(zip(scores, shares, strict=True), 2):
        assert score == other or (share - less) * (score - other) >= 0
        assert score != other or abs(share - less) <= 1


def test_allocations() -> None:
    assert allocate([], 0) == []
    assert allocate([0.5, 0.5], 8) == [4, 4]
    assert allocate([0.5, 0.5, 0.5], 8) == [3, 3, 2]
    assert allocate([0.9, 0.1], 8) == [8, 0]
    assert allocate([0.6, 0.5], 8, balance=0.1) == [6, 2]
    assert allocate([0.6, 0.5], 8, balance=10) == [4, 4]


def test_a_likelihood_is_the_geometric_mean() -> None:
    assert likelihood(Sample("a b", "b", (math.log(0.5), math.log(0.125)))) == pytest.approx(0.25)
    assert likelihood(Sample("")) == 0.0
    with pytest.raises(StrategyError, match="no log probabilities"):
        likelihood(Sample("a"))


# --- asking


class Scripted(BaseHTTPRequestHandler):
    """Answers with what the test says, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    most_choices = 99
    refused = False
    """requests for more than one choice"""
    status = 200
    replies: Iterator[str]
    asked: list[tuple[str, dict[str, str], Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        asked = body.get("n", 1) if isinstance(body, dict) else 0
        status = 400 if self.refused and asked > 1 else self.status
        number = min(asked, self.most_choices) if status == 200 else 0
        choices = [self.choice(next(self.replies)) for _ in range(number)]
        text = json.dumps({"choices": choices}) if status == 200 else "over\nloaded"
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    @staticmethod
    def choice(reply: str) -> dict[str, Any]:
        """`text:probability`, the probability being that of its one token."""
        text, _, probability = reply.partition(":")
        logprobs = {"content": [{"token": text, "logprob": math.log(float(probability))}]} if probability else None
        return {"message": {"role": "assistant", "content": text}, "logprobs": logprobs}

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def handler() -> type[Scripted]:
    return type("Handler", (Scripted,), {"replies": iter(()), "asked": []})


@pytest.fixture
def client(handler: type[Scripted], monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Client(f"http://127.0.0.1:{server.server_port}/v1", "tiny", "sk-1", answer_of=last_digit, max_tokens=9)
    server.shutdown()
    thread.join()
    server.server_close()


def last_digit(text: str) -> str | None:
    return text[-1] if text[-1:].isdigit() else None


def test_greedy(client: Client, handler: type[Scripted]) -> None:
    handler.replies = iter(["it is 4"])
    attempt = client.greedy("p1", "2 + 2?")
    assert (attempt.answer, attempt.requests) == ("4", 1)
    ((path, headers, body),) = handler.asked
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer sk-1"
    assert (headers["x-trueclock-problem"], headers["x-trueclock-strategy"]) == ("p1", "greedy")
    assert body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "2 + 2?"}],
        "temperature": 0,
        "logprobs": True,
        "max_tokens": 9,
    }


def test_n_choices_of_one_request(client: Client, handler: type[Scripted]) -> None:
    handler.replies = iter(["5", "4", "", "4"])
    attempt = client.majority("p1", "2 + 2?", 4, seed=70)
    assert (attempt.answer, attempt.requests, len(attempt.samples)) == ("4", 1, 4)
    assert attempt.samples[2].answer is None
    ((_, headers, body),) = handler.asked
    assert headers["x-trueclock-strategy"] == "majority@4"
    assert (body["n"], body["seed"], body["temperature"]) == (4, 70, 1.0)


def test_n_requests_where_a_server_has_no_choices(client: Client, handler: type[Scripted]) -> None:
    handler.replies, handler.most_choices = iter(["5", "4", "3", "4"]), 1
    attempt = client.majority("p1", "2 + 2?", 4, seed=70)
    assert (attempt.answer, attempt.requests, len(attempt.samples)) == ("4", 4, 4)
    assert [body["seed"] for *_, body in handler.asked] == [70, 71, 72, 73]


def test_n_requests_where_a_server_refuses_choices(client: Client, handler: type[Scripted]) -> None:
    handler.replies, handler.refused = itertools.cycle(["5", "4", "4"]), True
    for _ in range(2):
        attempt = client.majority("p1", "2 + 2?", 3)
        assert (attempt.answer, attempt.requests) == ("4", 3)
    assert [body.get("n") for *_, body in handler.asked] == [3, None, None, None, None, None, None]  # refused once


def test_a_wrong_request_is_an_error(client: Client, handler: type[Scripted]) -> None:
    handler.status = 422
    with pytest.raises(StrategyError, match="status 422"):
        client.majority("p1", "2 + 2?", 3)
    assert len(handler.asked) == 2


def test_names_of_any_language(client: Client, handler: type[Scripted]) -> None:
    handler.replies = iter(["4"])
    client.greedy("größe-π", "?")
    assert handler.asked[0][1]["x-trueclock-problem"].encode("latin-1").decode() == "größe-π"
    with pytest.raises(StrategyError, match="Invalid header value"):
        client.greedy("two\nlines", "?")


def test_weights_and_scores(client: Client, handler: type[Scripted]) -> None:
    handler.replies = itertools.cycle(["5:0.2", "5:0.3", "4:0.45"])
    assert client.weighted("p1", "?", 3).answer == "5"
    assert client.best_of("p1", "?", 3).answer == "4"
    assert client.best_of("p1", "?", 3, score=lambda sample: sample.answer == "5").answer == "5"
    names = [headers["x-trueclock-strategy"] for _, headers, _ in handler.asked]
    assert names == ["weighted@3", "best-of-3", "best-of-3"]


def test_tree_search(client: Client, handler: type[Scripted]) -> None:
    """The better beginning is gone on with; equal ones by one request; those with an answer are done."""
    handler.replies = iter(["a:0.9", "b:0.1", "a:0.9", "7:0.1", "c:0.9", "d:0.1", "8:0.5", "8:0.5", "9:0.5"])
    attempt = client.tree_search("p1", "q", 3, step="; ", seed=1)
    asked = [(body.get("n", 1), [each["content"] for each in body["messages"]]) for *_, body in handler.asked]
    assert asked == [(3, ["q"]), (3, ["q", "a; "]), (2, ["q", "a; c; "])]
    assert (attempt.answer, attempt.requests, attempt.strategy) == ("8", 3, "tree@3")
    assert sorted(sample.text for sample in attempt.samples) == ["a; 7", "a; c; 8", "a; c; 8"]
    assert all(body["stop"] == ["; "] for *_, body in handler.asked)


def test_a_tree_without_an_answer_ends(client: Client, handler: type[Scripted]) -> None:
    handler.replies = itertools.repeat("no:0.5")
    attempt = client.tree_search("p1", "q", 2, step="; ", deepest=3)
    assert (attempt.answer, attempt.requests) == (None, 3)


def test_outcomes(client: Client, handler: type[Scripted]) -> None:
    handler.replies = itertools.repeat("4")
    first, second = client.greedy("p1", "?"), client.greedy("p1", "?")
    assert first.id != second.id
    client.post_outcomes([first.outcome(correct=True), second.outcome(correct=False)])
    path, _, body = handler.asked[-1]
    assert path == "/trueclock/v1/outcomes"
    assert body[0] == {"problem": "p1", "strategy": "greedy", "model": "tiny", "id": first.id, "correct": True}
    assert body[1]["correct"] is False
    with pytest.raises(StrategyError, match=r"http://127\.0\.0\.1:9/trueclock/v1/outcomes: .*refused"):
        client.post_outcomes([first.outcome(correct=True)], gateway_url="http://127.0.0.1:9")


def test_what_goes_wrong_is_said_on_one_line(client: Client, handler: type[Scripted]) -> None:
    handler.status = 503
    with pytest.raises(StrategyError, match=r"/v1/chat/completions: status 503: over loaded$"):
        client.greedy("p1", "?")
    with pytest.raises(StrategyError, match="refused"):
        Client("http://127.0.0.1:9/v1", "tiny", answer_of=last_digit).greedy("p1", "?")


def test_no_choices(client: Client, handler: type[Scripted]) -> None:
    handler.most_choices = 0
    with pytest.raises(StrategyError, match="without choices"):
        client.greedy("p1", "?")
