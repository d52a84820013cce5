"""An endpoint is timed as the gateway would time it: against a server of known truth on a real socket."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream import HttpReply
from profiler.endpoint import Endpoint
from profiler.endpoint_error import EndpointError
from profiler.endpoint_prompts import MOST_TEMPLATE, Prompts
from profiler.machine import MachineError, Run
from tests.servers.black_box import MODEL, BlackBox, Contention, Manners, Truth, running
from tests.servers.openai_like import OpenAILike

FAST = Truth(overhead=0.004, beta=0.0005, per_prompt_token=1e-6)
ALONE = Contention(quiet=1.0)


def box(**manners: Any) -> BlackBox:
    return BlackBox(FAST, ALONE, Manners(**manners))


def calm(**manners: Any) -> Any:
    return running(box(**manners))


# --- prompts


@given(st.integers(0, 60), st.floats(0.3, 6.0), st.integers(1, 50_000))
def test_prompts_come_to_the_wanted_size(template: int, each: float, wanted: int) -> None:
    prompts = Prompts(1)
    for words in (16, 144):
        prompts.learn(words, round(template + each * words))
    words = prompts.words(wanted)
    got = template + each * words
    assert abs(got - wanted) <= max(0.03 * wanted, each / 2 + 1) or words == 1
    assert got <= prompts.most_tokens(words, prompts.text(words, long=False))


@given(st.integers(1, 300), st.booleans())
def test_a_prompt_has_the_words_it_was_asked_for(words: int, long: bool) -> None:
    text = Prompts().text(words, long=long)
    counted = text.replace(".", " .").replace(",", " ,").replace(":", " :").split()
    assert len(counted) in {words, words + 1}


def test_prompts_are_unlike_each_other_from_their_first_words() -> None:
    prompts = Prompts()
    starts = {" ".join(prompts.text(50, long=long).split()[:6]) for long in (True, False) for _ in range(500)}
    assert len(starts) == 1000


def test_before_anything_is_known_a_token_may_be_a_byte() -> None:
    assert Prompts().most_tokens(10, "x" * 49) == 49 + MOST_TEMPLATE


def test_what_was_larger_than_expected_widens_the_margin() -> None:
    prompts = Prompts()
    for words, tokens in ((16, 16), (144, 144), (100, 300)):
        prompts.learn(words, tokens)
    assert prompts.most_tokens(144, "") >= 3 * 144


# --- runs


@pytest.fixture
def calm_box() -> Iterator[BlackBox]:
    with calm() as server:
        yield server


@pytest.mark.parametrize("route", ["chat", "completions"])
def test_runs_have_the_replys_own_tokens_and_times_in_order(calm_box: BlackBox, route: Any) -> None:
    with Endpoint(calm_box.url, route=route) as endpoint:
        assert endpoint.model == MODEL
        for prompt, output in ((40, 1), (200, 8)):
            run = endpoint.run(prompt, output)
            assert abs(run.prompt_tokens - prompt) <= 3
            assert run.output_tokens == output
            assert 0 < run.first_seconds <= run.seconds
            assert run.seconds >= 0.9 * FAST.seconds(run.prompt_tokens, output)
    assert calm_box.sizes[-1] == (run.prompt_tokens, 8)


def test_one_connection_carries_all_requests(calm_box: BlackBox) -> None:
    with Endpoint(calm_box.url, MODEL) as endpoint:
        for _ in range(3):
            endpoint.run(20, 1)
    assert calm_box.connections == 1


def test_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    class Closing(BlackBox):
        async def reply(self, request: Any, wire: Any) -> None:
            await super().reply(request, wire)
            wire.close()

    with running(Closing(FAST, ALONE)) as server, Endpoint(server.url, MODEL) as endpoint:
        assert endpoint.run(20, 2).output_tokens == 2
        assert server.connections == len(server.requests) == 4


def test_fields_that_a_server_does_not_take_are_left_off_and_remembered(calm_box: BlackBox) -> None:
    with Endpoint(calm_box.url, MODEL) as endpoint:
        endpoint.run(20, 2)
        endpoint.run(20, 2)
    refused = [request for request in calm_box.requests if "ignore_eos" in request.json]
    assert len(refused) == 1
    assert calm_box.requests[0] is refused[0]


def test_a_server_that_takes_them_gets_them() -> None:
    with calm(strict=False) as server, Endpoint(server.url, MODEL) as endpoint:
        endpoint.run(20, 2)
        body = server.requests[-1].json
    assert (body["ignore_eos"], body["min_tokens"], body["max_tokens"], body["temperature"]) == (True, 2, 2, 0)
    assert body["stream_options"] == {"include_usage": True}


def test_the_newest_names_are_tried_too() -> None:
    class Newest(BlackBox):
        async def reply(self, request: Any, wire: Any) -> None:
            if "max_tokens" in request.json:
                request.body = request.body.replace(b'"max_tokens"', b'"no_such_field"')
            await super().reply(request, wire)

    with running(Newest(FAST, ALONE)) as server, Endpoint(server.url, MODEL) as endpoint:
        assert endpoint.run(20, 3).output_tokens == 3
        assert server.requests[-1].json["max_completion_tokens"] == 3


def test_a_reply_that_ends_early_says_how_many_tokens_there_were() -> None:
    with calm(ends_after=3) as server, Endpoint(server.url, MODEL) as endpoint:
        assert endpoint.run(20, 50).output_tokens == 3


def test_a_buffered_stream_has_its_first_token_at_the_end() -> None:
    with calm(burst=0) as server, Endpoint(server.url, MODEL) as endpoint:
        run = endpoint.run(20, 20)
    assert run.first_seconds > 0.9 * run.seconds


def test_a_process_held_up_after_the_write_makes_no_run_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(reply: HttpReply, data: bytes) -> None:
        sent(reply, data)
        time.sleep(0.05)
        reply.sent_at = time.monotonic()

    sent = HttpReply.send
    monkeypatch.setattr(HttpReply, "send", send)
    truth = Truth(overhead=0.1)
    with running(BlackBox(truth, Contention(quiet=1.0, jitter=0.0))) as server, Endpoint(server.url, MODEL) as endpoint:
        run = endpoint.run(20, 1)
    assert run.seconds >= truth.seconds(run.prompt_tokens, 1)


def test_it_says_who_it_is_and_no_more(calm_box: BlackBox) -> None:
    with Endpoint(f"{calm_box.url}/v1", key="sk-very-secret") as endpoint:
        endpoint.calibrate()
        assert endpoint.describe() == {
            "endpoint": f"127.0.0.1:{calm_box.port}",
            "route": "chat",
            "server": "black-box",
            "served_model": f"{MODEL}-served",
        }
        assert endpoint.host == f"127.0.0.1:{calm_box.port}"
    assert calm_box.requests[-1].header("authorization") == "Bearer sk-very-secret"


def test_a_model_on_the_servers_disk_keeps_its_place_to_itself() -> None:
    with calm() as server, Endpoint(server.url, MODEL) as endpoint:
        endpoint._served = "/home/somebody/models/mine@main"
        assert endpoint.describe()["served_model"] == "mine@main"


def test_a_whole_reply_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole(OpenAILike):
        async def reply(self, request: Any, wire: Any) -> None:
            request.body = request.body.replace(b'"stream":true', b'"stream":false').replace(
                b'"stream_options"', b'"x"'
            )
            await super().reply(request, wire)

    with running(Whole()) as server, Endpoint(server.url, "gpt") as endpoint:
        assert endpoint.run(50, 5) == Run(pytest.approx(50, abs=3), 5, pytest.approx(0, abs=5), pytest.approx(0, abs=5))


# --- what fails


def failing(server: BlackBox, message: str, **options: Any) -> EndpointError:
    """The error of a run, which is one line and shows no key."""
    with pytest.raises(EndpointError, match=message) as caught, Endpoint(server.url, **options) as endpoint:
        endpoint.run(50, 20)
    assert isinstance(caught.value, MachineError)
    text = str(caught.value)
    assert "\n" not in text
    assert "secret" not in text
    assert f"127.0.0.1:{server.port}" in text
    return caught.value


@pytest.mark.parametrize(
    ("manners", "options", "message"),
    [
        ({"key": "sk-right"}, {"model": MODEL}, r"401: it wants a key \(--key-env NAME"),
        ({"key": "sk-right"}, {"model": MODEL, "key": "sk-secret-1"}, r"401: the key was refused \(--key-env"),
        ({}, {"model": "gone"}, r"404: The model `gone` does not exist \(the model 'gone': is it served there"),
        ({"usage": False}, {"model": MODEL}, "its streams say no usage"),
        ({"fails": 1.0}, {"model": MODEL}, "500: The server had an error|the reply broke off before its end"),
        ({"longer": 9.0}, {"model": MODEL}, r"the reply was cut off after \d+ chunks, far more than were asked for"),
        ({"ends_after": 0}, {"model": MODEL}, "no output token came"),
    ],
    ids=["no-key", "wrong-key", "no-model", "no-usage", "fails", "endless", "empty"],
)
def test_errors_are_a_line(manners: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with calm(**manners) as server:
        failing(server, message, **options)


def test_too_many_requests_say_when_to_come_back() -> None:
    with calm(busy=1.0) as server:
        error = failing(
            server, "429: too many requests, or no credit left, retry after 0.05 s: Rate limit", model=MODEL
        )
    assert (error.status, error.retry_after, error.fatal) == (429, 0.05, False)


def test_a_key_that_a_server_repeats_is_not_shown() -> None:
    class Telling(BlackBox):
        def _refusal(self, request: Any) -> Any:
            return 400, {"detail": [{"msg": f"got {request.header('authorization')} and sk-proj-secret0123456789"}]}

    with running(Telling(FAST, ALONE)) as server:
        failing(server, r"400: got Bearer \.\.\. and \.\.\.$", model=MODEL, key="my-secret-key")


def test_a_reply_that_takes_too_long() -> None:
    with running(BlackBox(Truth(overhead=30.0), ALONE)) as server:
        failing(server, r"no whole reply within 0\.2 s \(--timeout\)", model=MODEL, timeout=0.2)


def test_nobody_there() -> None:
    with calm() as server:
        port = server.port
    with pytest.raises(EndpointError, match=rf"cannot connect to http://127.0.0.1:{port}: .*: is it running there\?"):
        Endpoint(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("url", ["localhost:8000", "http://user:secret@host", "http://host/v1/chat/completions"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(EndpointError, match=r"\(the endpoint's URL\)$") as caught:
        Endpoint(url, MODEL)
    assert "secret" not in str(caught.value)


def test_a_server_that_lists_no_model() -> None:
    class Empty(BlackBox):
        async def reply(self, request: Any, wire: Any) -> None:
            await wire.head(200, "OK", [("Content-Type", "application/json"), ("Content-Length", "11")])
            await wire.send(b'{"data":[]}')

    with running(Empty()) as server:
        failing(server, r"lists no model: name one \(--model\)")


def test_a_list_of_models_that_is_refused() -> None:
    class Broken(BlackBox):
        async def reply(self, request: Any, wire: Any) -> None:
            await wire.head(500, "Internal Server Error", [("Content-Length", "0")])

    with running(Broken()) as server:
        failing(server, r"500: Internal Server Error: GET /v1/models, to know a model's name \(or give it: --model\)")


def test_every_attempt_is_asked_for_before_it_is_sent() -> None:
    asked: list[tuple[int, int]] = []
    settled: list[Any] = []

    class Purse:
        def reserve(self, prompt_tokens: int, output_tokens: int) -> None:
            assert len(server.requests) == len(asked)
            asked.append((prompt_tokens, output_tokens))

        def settle(self, event: Any) -> None:
            settled.append(event)

    with calm() as server, Endpoint(server.url, MODEL, purse=Purse()) as endpoint:
        endpoint.run(30, 4)
    assert len(asked) == len(server.requests) == 4  # one of them was refused for its fields
    assert len(settled) == 3
    for (prompt, output), event in zip(asked[1:], settled, strict=True):
        assert event.prompt_tokens <= prompt
        assert event.completion_tokens <= output


@pytest.mark.parametrize("times", [1.6, 3.0])
def test_a_provider_that_gives_more_is_expected_to(times: float) -> None:
    with calm(longer=times, burst=0) as server, Endpoint(server.url, MODEL) as endpoint:
        try:
            endpoint.run(30, 40)
        except EndpointError:
            assert times > 1.6
        assert endpoint._most_output(40) >= (40 * times if times < 2 else 80)


def test_an_endpoint_of_an_error_that_says_200() -> None:
    class Wrong(BlackBox):
        async def reply(self, request: Any, wire: Any) -> None:
            await wire.head(200, "OK", [("Content-Type", "text/event-stream"), ("Content-Length", "38")])
            await wire.send(b'data: {"error":{"message":"exploded"}}' + b"\n\n"[:0])

    with running(Wrong()) as server:
        failing(server, "the reply is an error, though its status is 200", model=MODEL)
