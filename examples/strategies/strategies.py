"""Greedy, majority, weighted, best-of-n and tree search over any OpenAI-compatible server, with outcomes for trueclock.

One file, the standard library alone: copy it into your project.

    client = Client("http://127.0.0.1:4000/v1", "gpt-4o-mini", api_key, answer_of=lambda text: text.split()[-1])
    attempt = client.majority("gsm8k-017", "How many ...? End with the number.", samples=8)
    client.post_outcomes([attempt.outcome(correct=attempt.answer == "42")])

Every request says in the headers x-trueclock-problem and x-trueclock-strategy what it is for. The gateway counts what
each strategy cost, the outcomes say what came of it, and `stream outcomes` puts both together. Directly at a provider
the strategies work as well; it passes the headers over.

The functions above `Client` decide and are pure: they are of use on answers from anywhere. None of them depends on the
order of what it is given, and ties go to the answer that is first in the alphabet.
"""

import json
import math
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

__all__ = [
    "Attempt", "Client", "Sample", "StrategyError", "allocate", "best", "likelihood", "majority", "weighted",
]  # fmt: skip

_WRONG = (400, 422)  # a request that the server does not understand


class StrategyError(Exception):
    """A server that cannot be asked, or does not say what a strategy needs; one line. `status` is that of HTTP."""

    def __init__(self, said: str, status: int | None = None) -> None:
        super().__init__(said)
        self.status = status


@dataclass(frozen=True)
class Sample:
    """One reply, or the beginning of one: its text, the answer in it, and the log probability of each token."""

    text: str
    answer: str | None = None
    log_probabilities: tuple[float, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """What a strategy made of a problem. `id` names this attempt in its outcome; `requests` is how many it took."""

    problem: str
    strategy: str
    model: str
    answer: str | None
    samples: Sequence[Sample]
    requests: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def outcome(self, *, correct: bool) -> dict[str, Any]:
        """The outcome to post, once it is known whether the answer is right."""
        named = {"problem": self.problem, "strategy": self.strategy, "model": self.model, "id": self.id}
        return {**named, "correct": correct}


Score = Callable[[Sample], float]
"""How good a sample looks, 0 or more: a verifier, a reward model, or `likelihood`."""


# --- deciding


def majority(answers: Iterable[str | None]) -> str | None:
    """The most frequent answer; None where nobody gives one."""
    return weighted((answer, 1.0) for answer in answers)


def weighted(votes: Iterable[tuple[str | None, float]]) -> str | None:
    """The answer whose weights, added, are the most; those without an answer have no vote."""
    weights: dict[str, list[float]] = {}
    for answer, weight in votes:
        if answer is not None:
            weights.setdefault(answer, []).append(weight)
    # fsum: exact, so that the order of the votes changes nothing.
    return min(weights, key=lambda answer: (-math.fsum(weights[answer]), answer), default=None)


def best(scored: Iterable[tuple[str | None, float]]) -> str | None:
    """The answer with the highest score."""
    given = [(-score, answer) for answer, score in scored if answer is not None]
    return min(given)[1] if given else None


def likelihood(sample: Sample) -> float:
    """How likely the model finds its own words: the geometric mean of the probabilities of the tokens; 0 for none."""
    if not sample.text:
        return 0.0
    if not sample.log_probabilities:
        raise StrategyError("the server gives no log probabilities: score the samples by something else")
    return math.exp(math.fsum(sample.log_probabilities) / len(sample.log_probabilities))


def allocate(scores: Sequence[float], budget: int, balance: float = 0.1) -> list[int]:
    """Divide a budget of samples by scores: in proportion to exp(score / balance), rounded by largest remainder.

    That is how REBASE (Wu et al., arXiv 2408.00724) widens a tree. A small `balance` gives all to the best.
    """
    top = max(scores, default=0.0)
    weights = [math.exp((score - top) / balance) for score in scores]
    shares = [budget * weight / math.fsum(weights) for weight in weights]
    whole = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda place: (whole[place] - shares[place], -scores[place], place))
    for place in by_remainder[: budget - sum(whole)]:
        whole[place] += 1
    return whole


# --- asking


class Client:
    """One model behind an OpenAI-compatible server. Methods may be called from several threads.

    `answer_of` finds the answer in a reply, None where there is none yet. A `seed` makes what is sampled repeatable,
    where the server knows seeds: give each problem its own. `more` goes into every request, such as `max_tokens`.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str = "none",
        *,
        answer_of: Callable[[str], str | None],
        temperature: float = 1.0,
        timeout: float = 120.0,
        **more: Any,
    ) -> None:
        self.base_url = base_url.rstrip("/") + "/"
        self.model = model
        self.answer_of = answer_of
        self.several = True
        """until the server refuses a request for more than one choice"""
        self._key = api_key
        self._temperature = temperature
        self._timeout = timeout
        self._more = more

    def greedy(self, problem: str, question: str) -> Attempt:
        """Ask once, for the likeliest reply."""
        asked = _Asked(self, problem, "greedy", question, None)
        (sample,) = asked.samples(1, temperature=0)
        return asked.attempt(sample.answer, [sample])

    def majority(self, problem: str, question: str, samples: int, seed: int | None = None) -> Attempt:
        """Put replies to the vote (self-consistency, Wang et al., arXiv 2203.11171)."""
        asked = _Asked(self, problem, f"majority@{samples}", question, seed)
        found = asked.samples(samples)
        return asked.attempt(majority(sample.answer for sample in found), found)

    def weighted(
        self, problem: str, question: str, samples: int, seed: int | None = None, score: Score = likelihood
    ) -> Attempt:
        """Put replies to the vote, the score of each its weight."""
        asked = _Asked(self, problem, f"weighted@{samples}", question, seed)
        found = asked.samples(samples)
        return asked.attempt(weighted((sample.answer, score(sample)) for sample in found), found)

    def best_of(
        self, problem: str, question: str, samples: int, seed: int | None = None, score: Score = likelihood
    ) -> Attempt:
        """Take the reply with the best score."""
        asked = _Asked(self, problem, f"best-of-{samples}", question, seed)
        found = asked.samples(samples)
        return asked.attempt(best((sample.answer, score(sample)) for sample in found), found)

    def tree_search(
        self,
        problem: str,
        question: str,
        width: int,
        *,
        step: str,
        seed: int | None = None,
        score: Score = likelihood,
        deepest: int = 16,
    ) -> Attempt:
        """Go on step by step, wider where it looks good, until `width` beginnings have an answer; then vote by score.

        `step` is the text between two steps. The server has to continue a last message of the assistant's, as vLLM
        (`continue_final_message`), SGLang and Anthropic do.
        """
        asked = _Asked(self, problem, f"tree@{width}", question, seed)
        ended: list[Sample] = []
        open_ends = [Sample("")]
        for _ in range(deepest):
            looks = [score(each) if each.text else 1.0 for each in open_ends]
            shares: Counter[Sample] = Counter()
            for each, share in zip(open_ends, allocate(looks, width - len(ended)), strict=True):
                shares[each] += share  # equal ones are continued by one request
            grown = [longer for each, share in shares.items() for longer in asked.continued(each, share, step)]
            ended += [each for each in grown if each.answer is not None]
            open_ends = [each for each in grown if each.answer is None]
            if not open_ends:
                break
        return asked.attempt(weighted((each.answer, score(each)) for each in ended), [*ended, *open_ends])

    def post_outcomes(self, outcomes: Sequence[Mapping[str, Any]], gateway_url: str | None = None) -> None:
        """Post what attempts came to, in one request; they are safe when it returns.

        `gateway_url` is where the gateway has its own paths, if that is another port (`--admin`).
        """
        self._post(urljoin(gateway_url or self.base_url, "/trueclock/v1/outcomes"), list(outcomes), {})

    def complete(self, messages: Sequence[Mapping[str, str]], labels: Mapping[str, str], **more: Any) -> list[Sample]:
        """Send one request for a chat completion, with `labels` as x-trueclock-* headers; one sample a choice."""
        body = {"model": self.model, "messages": messages, "temperature": self._temperature, "logprobs": True}
        # Headers are sent as Latin-1, and read as UTF-8.
        headers = {f"x-trueclock-{name}": value.encode().decode("latin-1") for name, value in labels.items()}
        reply = self._post(urljoin(self.base_url, "chat/completions"), {**body, **self._more, **more}, headers)
        try:
            return [self._sample(choice) for choice in reply["choices"]]
        except (KeyError, TypeError) as error:
            raise StrategyError(f"{self.base_url}: no chat completion in the reply: {error!r}") from None

    def _sample(self, choice: Mapping[str, Any]) -> Sample:
        text = choice["message"]["content"] or ""
        tokens = (choice.get("logprobs") or {}).get("content") or []
        return Sample(text, self.answer_of(text), tuple(token["logprob"] for token in tokens))

    def _post(self, url: str, body: Any, headers: Mapping[str, str]) -> Any:
        own = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        request = Request(url, json.dumps(body).encode(), {**own, **headers})  # noqa: S310 - the caller's own address
        try:
            with urlopen(request, timeout=self._timeout) as reply:  # noqa: S310
                return json.load(reply)
        except HTTPError as error:
            said = " ".join(error.read(500).decode(errors="replace").split())
            raise StrategyError(f"{url}: status {error.code}: {said}", error.code) from None
        except (URLError, OSError) as error:
            raise StrategyError(f"{url}: {getattr(error, 'reason', error)}") from None
        except ValueError as error:
            raise StrategyError(f"{url}: {error}") from None


class _Asked:
    """The requests of one attempt."""

    def __init__(self, client: Client, problem: str, strategy: str, question: str, seed: int | None) -> None:
        self._client = client
        self._labels = {"problem": problem, "strategy": strategy}
        self._question = {"role": "user", "content": question}
        self._seed = seed
        self._drawn = 0
        self._requests = 0

    def samples(self, number: int, beginning: str = "", **more: Any) -> list[Sample]:
        """So many replies, of one request with `n` choices, or of more where a server has fewer choices than asked."""
        begun = [{"role": "assistant", "content": beginning}] if beginning else []
        found: list[Sample] = []
        while len(found) < number:
            left = number - len(found)
            several = {"n": left} if left > 1 and self._client.several else {}
            seeded = {} if self._seed is None else {"seed": self._seed + self._drawn}  # no two requests draw alike
            try:
                got = self._client.complete([self._question, *begun], self._labels, **several, **seeded, **more)
            except StrategyError as error:
                if not several or error.status not in _WRONG:
                    raise
                self._client.several = False  # if it was not that, the next request says so
                continue
            if not got:
                raise StrategyError(f"{self._client.base_url}: a reply without choices")
            self._requests += 1
            self._drawn += len(got)
            found += got[:left]
        return found

    def continued(self, before: Sample, number: int, step: str) -> list[Sample]:
        """So many continuations of a beginning, by one step each."""
        beginning = before.text + step * bool(before.text)
        after = self.samples(number, beginning, stop=[step]) if number else []
        return [self._extended(before, beginning + each.text, each.log_probabilities) for each in after]

    def _extended(self, before: Sample, text: str, log_probabilities: tuple[float, ...]) -> Sample:
        return Sample(text, self._client.answer_of(text), before.log_probabilities + log_probabilities)

    def attempt(self, answer: str | None, samples: Sequence[Sample]) -> Attempt:
        """What came of it."""
        return Attempt(
            **self._labels, model=self._client.model, answer=answer, samples=samples, requests=self._requests
        )
