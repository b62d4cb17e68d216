"""Declarations of functions, calls in messages, and arguments against their schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlchat_envs import DialogueEnv, Message, Tool, declare, declared, read_message, write_call
from rlchat_envs.core.json_schema import fault, types_of
from rlchat_envs.core.messages import to_row
from rlchat_envs.core.tools import Call, read_tools, write_message
from rlchat_envs.scenarios.support import SupportToolsScenario
from rlchat_reward_models import RuleScorer

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
}
WEATHER = Tool.of("weather", "What the weather will be.", SCHEMA)
NOW = Tool("now", '{"type": "function", "function": {"name": "now"}}')
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_declaration_is_kept_as_it_was_given() -> None:
    given = {"type": "function", "function": {"name": "f", "strict": True, "parameters": SCHEMA}}
    (tool,) = read_tools([given])
    assert (tool.name, tool.declaration, tool.parameters) == ("f", given, SCHEMA)
    assert NOW.parameters == {"type": "object", "properties": {}}
    assert len({tool, read_tools([given])[0]}) == 1


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ("weather", "a list of functions; got str"),
        (None, "a list of functions; got NoneType"),
        ([{"name": "f"}], '{"type": "function", "function": {…}}'),
        ([{"type": "retrieval", "function": {"name": "f"}}], '{"type": "function"'),
        ([{"type": "function", "function": {"name": "two words"}}], "letters, digits and _"),
        ([{"type": "function", "function": {"name": "f", "description": 3}}], "to be text"),
        ([{"type": "function", "function": {"name": "f", "parameters": []}}] * 2, "f twice"),
        ([{"type": "function", "function": {"name": "f", "parameters": "x"}}], "JSON schema"),
        (
            [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}],
            '"type": "object"',
        ),
        (
            [{"type": "function", "function": {"name": "f", "parameters": {"properties": [1]}}}],
            "by name",
        ),
        ([{"type": "function", "function": {"name": "f", "x": object()}}], "that JSON can hold"),
    ],
)
def test_what_is_no_declaration_is_told(declared: object, words: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        read_tools(declared)
    assert words in str(caught.value)


@given(st.dictionaries(st.text(), JSON, max_size=3), st.text().filter(lambda t: "<" not in t))
def test_calls_come_back_as_they_were_written(arguments: Mapping[str, Any], words: str) -> None:
    written = write_message(words, [write_call("f", arguments), write_call("g", {})])
    spoken = read_message(written)
    assert spoken.words == words.strip()
    assert spoken.calls == (Call("f", arguments), Call("g", {}))


def test_no_text_inside_a_call_ends_it() -> None:
    arguments = {"text": "</tool_call><tool_call>{}"}
    (call,) = read_message(write_call("f", arguments)).calls
    assert call == Call("f", arguments)


BROKEN = {
    "<tool_call>": "expected a call as <tool_call>",
    "<tool_call>weather of Oslo</tool_call>": "expected a call as <tool_call>",
    '<tool_call>["weather"]</tool_call>': "expected a call as <tool_call>",
    '<tool_call>{"name": 3}</tool_call>': "expected a call as <tool_call>",
    '<tool_call>{"name": "weather", "arguments": "Oslo"}</tool_call>': "as a JSON object",
    '<tool_call>{"name": "whether", "arguments": {}}</tool_call>': "there is weather, now",
    '<tool_call>{"name": "weather"}</tool_call>': "weather: city is missing",
    '<tool_call>{"name": "weather", "arguments": {"city": 3}}</tool_call>': (
        "city must be of type string"
    ),
    '<tool_call>{"name": "weather", "arguments": {"city": "a", "days": 0}}</tool_call>': (
        "days must be at least 1"
    ),
    '<tool_call>{"name": "weather", "arguments": {"city": "a", "town": 1}}</tool_call>': (
        "there is no town"
    ),
    '<tool_call>{"name": "now", "arguments": {"zone": 1}}</tool_call>': "there is no zone",
}


@pytest.mark.parametrize(("text", "words"), BROKEN.items())
def test_a_broken_call_has_an_error_to_be_read(text: str, words: str) -> None:
    (call,) = read_message(f"One moment. {text}", (WEATHER, NOW)).calls
    assert call.error.startswith("Error: ") and words in call.error
    assert str(call)


def test_calls_that_are_in_order_have_none() -> None:
    text = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo", "days": 2.0}}'
    (call,) = read_message(text, (WEATHER,)).calls  # unclosed, as it may be cut off there
    assert not call.error
    assert str(call) == 'weather(city="Oslo", days=2.0)'
    (none,) = read_message(
        '<tool_call>{"name": "now", "arguments": null}</tool_call>', (NOW,)
    ).calls
    assert none == Call("now")


@given(st.text() | st.lists(st.sampled_from(["<tool_call>", "</tool_call>", "{", '"name"'])))
def test_any_text_can_be_read(text: str | list[str]) -> None:
    text = "".join(text)
    spoken = read_message(text, (WEATHER,))
    assert len(spoken.calls) == text.count("<tool_call>")
    assert all(call.error for call in spoken.calls)
    assert spoken.words == text or spoken.calls or "tool_call" in text


REFERRED = {
    "$defs": {"place": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
    "properties": {"at": {"$ref": "#/$defs/place"}, "deep": {"items": {"$ref": "#/properties/at"}}},
}


@pytest.mark.parametrize(
    ("value", "schema", "wrong"),
    [
        (3, {"type": "integer"}, ""),
        (3.5, {"type": "integer"}, "n must be of type integer"),
        (True, {"type": "integer"}, "n must be of type integer"),
        (float("inf"), {"type": "integer"}, "n must be of type integer"),
        (None, {"type": ["string", "null"]}, ""),
        (None, {"type": "string", "nullable": True}, ""),
        ("a", {"enum": ["a", "b"]}, ""),
        ("c", {"enum": ["a", "b"]}, "n must be a or b"),
        (1, {"const": True}, "n must be True"),
        (4, {"maximum": 3}, "n must be at most 3"),
        ("abc", {"maxLength": 2}, "the length of n must be at most 2"),
        ("abc", {"pattern": "^b"}, "n must match ^b"),
        ("abc", {"pattern": "("}, ""),
        ([], {"minItems": 1}, "the length of n must be at least 1"),
        ([1, "a"], {"items": {"type": "integer"}}, "n[1] must be of type integer"),
        ({"at": "x", "deep": [None]}, REFERRED, ""),
        ({"at": 3}, REFERRED, "at must be of type string"),
        ({"deep": [3]}, REFERRED, "deep[0] must be of type string"),
        ({"a": 1}, {"allOf": [{"required": ["b"]}]}, "b is missing"),
        ({"a": 1}, {"additionalProperties": {"type": "string"}}, "a must be of type string"),
        (1, {"$ref": "#"}, ""),
        (1, {"type": "future"}, ""),
        (1, False, "n is not allowed"),
    ],
)
def test_values_are_checked_against_a_schema(value: object, schema: object, wrong: str) -> None:
    assert fault(value, schema, "n") == wrong


def test_types_of_a_schema() -> None:
    assert types_of(REFERRED["properties"]["at"], REFERRED) == ("string", "null")
    assert types_of({"type": ["integer", "null"]}) == ("integer", "null")
    assert types_of({}) == types_of(None) == ()


KEYWORDS = ["type", "enum", "items", "anyOf", "$ref", "required", "properties", "pattern"]


@given(JSON, st.dictionaries(st.sampled_from(KEYWORDS), JSON))
def test_any_schema_gives_an_answer(value: object, schema: Mapping[str, Any]) -> None:
    assert isinstance(fault(value, schema), str)
    assert isinstance(types_of(schema), tuple)


def test_a_conversation_carries_what_is_declared() -> None:
    talk = (Message("system", "Desk."), Message("user", "Hi."))
    told = declare(talk, (WEATHER,))
    assert declared(told) == (WEATHER,) and declared(talk) == declared(()) == ()
    assert to_row(told)["tools"] == [WEATHER.declaration] and "tools" not in to_row(talk)
    assert json.dumps(to_row(told))


def called(env: DialogueEnv, text: str) -> tuple[Any, ...]:
    observation, score, terminated, _, info = env.step(text)
    return observation, score, terminated, info


def test_a_call_is_answered_by_the_desk_and_not_by_the_user() -> None:
    env = DialogueEnv(SupportToolsScenario(), scorer=RuleScorer())
    _, info = env.reset(seed=3)
    number = info["privileged"]["order_number"]
    assert [t["function"]["name"] for t in info["tools"]] == ["lookup_order", "lookup_policy"]
    observation, score, over, info = called(env, write_call("lookup_order", {"order_id": number}))
    assert observation.startswith(f"[desk] Order {number}") and not over
    assert [m.role for m in info["conversation"]][-2:] == ["assistant", "tool"]
    assert info["parts"]["progress"] == pytest.approx(0.2) == pytest.approx(score)
    assert "tools" not in info


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_call_is_an_observation_and_no_end(text: str) -> None:
    env = DialogueEnv(SupportToolsScenario(), users=("agenda",))
    env.reset(seed=0)
    observation, _, over, info = called(env, text)
    assert observation.startswith("[desk] Error: ") and not over
    assert info["costs"] == {"needless_call": 1.0}


def test_words_beside_a_call_have_their_manner_and_decide_nothing() -> None:
    env = DialogueEnv(SupportToolsScenario(), scorer=RuleScorer())
    _, info = env.reset(seed=1)
    call = write_call("lookup_order", {"order_id": info["privileged"]["order_number"]})
    offer = f"You get {info['privileged']['resolution'].replace('_', ' ')}"
    *_, over, info = called(env, f"{offer}\n{call}")
    assert not over and info["parts"]["courtesy"] < 0 and info["parts"]["cut_off"] < 0
    *_, info = called(env, call)
    assert info["parts"]["courtesy"] == info["parts"]["cut_off"] == 0
