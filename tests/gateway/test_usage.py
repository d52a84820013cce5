"""What replies say of themselves, in every dialect, and that nothing in them can make reading fail."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.usage import (
    MAX_TEXT,
    MAX_TOKENS,
    Delta,
    Facts,
    Usage,
    chunk_facts,
    decode_chunk,
    event_facts,
    merge,
    reply_facts,
    usage_of,
)

OPENAI = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 20, "accepted_prediction_tokens": 0},
}
RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 130,
}
ANTHROPIC = {
    "input_tokens": 6,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 64,
    "output_tokens": 30,
}


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (OPENAI, Usage(100, 64, 30, 20)),
        ({"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}, Usage(7, None, 4, None)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, None, 0, None)),
        ({"prompt_tokens": 7, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 0}}, Usage(7, 0, 4, None)),
        ({"prompt_tokens": 7, "completion_tokens": 4, "prompt_tokens_details": None}, Usage(7, None, 4, None)),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, None, 0, None)),
        ({"prompt_tokens": 8}, Usage(8, None, None, None)),
        ({"completion_tokens": 8}, Usage(None, None, 8, None)),
        ({"prompt_tokens": 7.0, "completion_tokens": 4.5}, Usage(7, None, None, None)),
        (RESPONSES, Usage(100, 64, 30, 20)),
        ({"input_tokens": 100, "output_tokens": 30}, Usage(100, None, 30, None)),
        (ANTHROPIC, Usage(100, 64, 30, None, 30)),
        ({"input_tokens": 6, "output_tokens": 1, "cache_read_input_tokens": None}, Usage(6, None, 1, None)),
        ({"output_tokens": 30}, Usage(None, None, 30, None)),
        # litellm tells what Anthropic wrote to its cache in one of two places
        ({"prompt_tokens": 9, "completion_tokens": 4, "cache_creation_input_tokens": 5}, Usage(9, None, 4, None, 5)),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cache_creation_tokens": 5}},
            Usage(9, None, 4, None, 5),
        ),
        # litellm has added Gemini's thoughts already: they are not added again
        ({**OPENAI, "completion_tokens_details": {"reasoning_tokens": 20, "text_tokens": 10}}, Usage(100, 64, 30, 20)),
        # Google's and xAI's own OpenAI dialect: only the total has the thoughts
        ({"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 31}, Usage(7, None, 24, 20)),
        (
            {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 31, "completion_tokens_details": {"reasoning_tokens": 20}},
            Usage(7, None, 24, 20),
        ),
        # a total that is off by something else adds nothing
        (
            {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 71, "prompt_tokens_details": {"cached_tokens": 60}},
            Usage(7, 60, 4, None),
        ),
        ({"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 5}, Usage(7, None, 4, None)),
        ({}, None),
        (None, None),
        ([], None),
        ("usage", None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": "7", "completion_tokens": True}, None),
        ({"prompt_tokens": -1, "completion_tokens": -0.5}, None),
        ({"prompt_tokens": float("inf"), "completion_tokens": float("nan")}, None),
        ({"prompt_tokens": MAX_TOKENS + 1, "completion_tokens": 10**40}, None),
        ({"input_tokens": MAX_TOKENS, "cache_read_input_tokens": 1, "output_tokens": 2}, Usage(None, 1, 2, None)),
        ({"input_tokens": 6, "input_tokens_details": "odd", "output_tokens_details": [1]}, Usage(6, None, None, None)),
    ],
)  # fmt: skip
def test_usage_of(raw: Any, usage: Usage | None) -> None:
    assert usage_of(raw) == usage


@pytest.mark.parametrize(
    ("first", "later", "both"),
    [
        (None, None, None),
        (Usage(1), None, Usage(1)),
        (None, Usage(1), Usage(1)),
        (Usage(100, 64, 1), Usage(completion=30), Usage(100, 64, 30)),
        (Usage(0, None, 0), Usage(11, 2, 4, 1), Usage(11, 2, 4, 1)),
        (Usage(11, None, 3), Usage(11, None, 0), Usage(11, None, 0)),
    ],
)
def test_later_words_of_usage_win(first: Usage | None, later: Usage | None, both: Usage | None) -> None:
    assert merge(first, later) == both


@pytest.mark.parametrize(
    ("document", "model", "finish", "error", "choices"),
    [
        ({"model": "m", "choices": [{"finish_reason": "stop"}]}, "m", "stop", False, 1),
        ({"choices": [{"finish_reason": None}, {"finish_reason": "length"}]}, None, "length", False, 2),
        ({"choices": []}, None, None, False, 0),
        ({"choices": [7, None]}, None, None, False, 2),
        ({"model": "claude", "type": "message", "stop_reason": "end_turn"}, "claude", "end_turn", False, None),
        ({"object": "response", "status": "completed", "error": None}, None, "completed", False, None),
        ({"object": "response", "status": "failed", "error": {"code": "x"}}, None, "failed", True, None),
        ({"object": "list", "data": [], "status": "x"}, None, None, False, None),
        ({"error": {"message": "no"}}, None, None, True, None),
        ({"model": "x" * 5000, "stop_reason": "y" * 5000}, "x" * MAX_TEXT, "y" * MAX_TEXT, False, None),
        ({"model": 7, "choices": {"finish_reason": "stop"}}, None, None, False, None),
        ([], None, None, False, None),
        (None, None, None, False, None),
    ],
)
def test_reply_facts(document: Any, model: str | None, finish: str | None, error: bool, choices: int | None) -> None:
    facts = reply_facts(document)
    assert (facts.model, facts.finish_reason, facts.error, facts.choices) == (model, finish, error, choices)
    assert facts.usage is None


@pytest.mark.parametrize(
    ("facts", "tier"),
    [
        (reply_facts({"choices": [], "service_tier": "flex"}), "flex"),
        (reply_facts({"choices": [], "service_tier": None}), None),
        (reply_facts({"type": "message", "usage": {**ANTHROPIC, "service_tier": "priority"}}), "priority"),
        (event_facts({"type": "response.completed", "response": {"service_tier": "default"}}), "default"),
        (event_facts({"type": "message_start", "message": {"usage": {"service_tier": "batch"}}}), "batch"),
        (event_facts({"choices": [7], "service_tier": "flex"}), "flex"),
        (event_facts({"choices": [], "service_tier": 7}), None),
        (chunk_facts(decode_chunk(b'{"choices":[],"usage":null,"service_tier":"flex"}')), "flex"),
    ],
)
def test_the_tier_at_which_it_was_served(facts: Facts, tier: str | None) -> None:
    assert facts.service_tier == tier


def test_a_replys_usage_is_its_usage() -> None:
    assert reply_facts({"usage": ANTHROPIC}).usage == Usage(100, 64, 30, None, 30)


@pytest.mark.parametrize(
    ("choice", "delta"),
    [
        ({"index": 0, "delta": {"content": "a"}}, Delta(0, content=True)),
        ({"index": 3, "delta": {"content": "a"}}, Delta(3, content=True)),
        ({"delta": {"role": "assistant", "content": ""}}, Delta(0)),
        ({"delta": {"role": "assistant", "content": None}}, Delta(0)),
        ({"delta": {}}, Delta(0)),
        ({"delta": None}, Delta(0)),
        ({"delta": {"reasoning_content": "hm"}}, Delta(0, reasoning=True)),
        ({"delta": {"reasoning": "hm", "content": ""}}, Delta(0, reasoning=True)),
        ({"delta": {"tool_calls": [{"index": 0}]}}, Delta(0, content=True)),
        ({"delta": {"tool_calls": []}}, Delta(0)),
        ({"delta": {"function_call": {"name": "f"}}}, Delta(0, content=True)),
        ({"delta": {"refusal": "no"}}, Delta(0, content=True)),
        ({"delta": {"content": [{"type": "text", "text": "a"}]}}, Delta(0, content=True)),
        ({"text": "a", "finish_reason": None}, Delta(0, content=True)),
        ({"text": "", "finish_reason": "stop"}, Delta(0)),
    ],
)
def test_what_a_choice_carries(choice: dict[str, Any], delta: Delta) -> None:
    assert chunk_facts(decode_chunk(msgspec.json.encode({"choices": [choice]}))).deltas == [delta]
    assert event_facts({"choices": [choice]}).deltas == [delta]


@pytest.mark.parametrize(
    ("event", "usage", "finish", "error", "deltas"),
    [
        # Anthropic's messages
        ({"type": "message_start", "message": {"model": "c", "usage": {**ANTHROPIC, "output_tokens": 1}}}, Usage(100, 64, 1, None, 30), None, False, []),
        ({"type": "ping"}, None, None, False, []),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}, None, None, False, [Delta(0, content=True)]),
        ({"type": "content_block_delta", "delta": {"partial_json": "{"}}, None, None, False, [Delta(0, content=True)]),
        ({"type": "content_block_delta", "delta": {"thinking": "hm"}}, None, None, False, [Delta(0, reasoning=True)]),
        ({"type": "content_block_delta", "delta": {"signature": "x"}}, None, None, False, [Delta(0)]),
        ({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 30}}, Usage(None, None, 30), "max_tokens", False, []),
        ({"type": "message_stop"}, None, "stop", False, []),
        ({"type": "error", "error": {"type": "overloaded_error"}}, None, None, True, []),
        # the responses API
        ({"type": "response.created", "response": {"status": "in_progress", "usage": None}}, None, None, False, []),
        ({"type": "response.output_text.delta", "delta": "a"}, None, None, False, [Delta(0, content=True)]),
        ({"type": "response.output_text.delta", "delta": ""}, None, None, False, []),
        ({"type": "response.reasoning_summary_text.delta", "delta": "hm"}, None, None, False, [Delta(0, reasoning=True)]),
        ({"type": "response.completed", "response": {"status": "completed", "usage": RESPONSES}}, Usage(100, 64, 30, 20), "completed", False, []),
        ({"type": "response.incomplete", "response": {"status": "incomplete"}}, None, "incomplete", False, []),
        ({"type": "response.failed", "response": {"error": {}}}, None, None, True, []),
        # slips
        ({"error": {"message": "mid-stream"}}, None, None, True, []),
        ({"choices": [{"index": "a", "delta": {"content": "x"}}, {"finish_reason": "stop"}]}, None, "stop", False, [Delta(1)]),
        ({"choices": [None, {"delta": 7}, {"finish_reason": "length", "index": 2}], "error": {"x": 1}, "usage": OPENAI}, Usage(100, 64, 30, 20), "length", True, [Delta(0), Delta(2)]),
        ({"choices": [None, 7]}, None, None, False, [Delta(0), Delta(1)]),
        ({"choices": [{"delta": {"content": "x"}, "finish_reason": 1}]}, None, None, False, []),
        ({"choices": None, "usage": OPENAI}, Usage(100, 64, 30, 20), None, False, []),
        ([1], None, None, False, []),
        ("x", None, None, False, []),
    ],
)  # fmt: skip
def test_event_facts(event: Any, usage: Usage | None, finish: str | None, error: bool, deltas: list[Delta]) -> None:
    facts = event_facts(event)
    assert (facts.usage, facts.finish_reason, facts.error, facts.deltas) == (usage, finish, error, deltas)


def test_texts_of_a_chunk_are_bounded() -> None:
    facts = chunk_facts(
        decode_chunk(msgspec.json.encode({"model": "m" * 999, "choices": [{"finish_reason": "f" * 999}]}))
    )
    assert (facts.model, facts.finish_reason) == ("m" * MAX_TEXT, "f" * MAX_TEXT)


NAMES = st.sampled_from([
    "usage", "choices", "delta", "message", "response", "type", "model", "error", "index", "content", "finish_reason",
    "stop_reason", "object", "status", "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens",
    "output_tokens", "prompt_tokens_details", "completion_tokens_details", "cached_tokens", "reasoning_tokens",
    "input_tokens_details", "cache_read_input_tokens", "cache_creation_input_tokens", "text",
])  # fmt: skip
KINDS = st.sampled_from([
    "message_start", "message_delta", "message_stop", "content_block_delta", "error", "response.completed",
    "response.output_text.delta", "response",
])  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | KINDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=15,
)


@given(anything)
def test_nothing_makes_reading_fail(document: Any) -> None:
    for usage in (usage_of(document), reply_facts(document).usage, event_facts(document).usage):
        for count in (usage.prompt, usage.cached, usage.completion, usage.reasoning) if usage else ():
            assert count is None or (type(count) is int and 0 <= count <= MAX_TOKENS)
