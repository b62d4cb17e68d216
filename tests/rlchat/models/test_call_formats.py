"""Calls in the forms that models write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlchat.models.templates.call_formats import shown_words, to_canonical
from rlchat_envs import Tool, read_message

ORDER = Tool.of(
    "lookup_order",
    "Look up an order.",
    {
        "type": "object",
        "properties": {
            "order_id": {"type": "string"},
            "days": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    },
)
PING = Tool.of("ping", "", {})
ARGUMENTS = {"order_id": "75001", "days": 3, "tags": ["a", "b"]}
JSON_ARGUMENTS = json.dumps(ARGUMENTS)
XML = (
    "<function=lookup_order>\n<parameter=order_id>\n75001\n</parameter>\n<parameter=days>\n3\n"
    '</parameter>\n<parameter=tags>\n["a", "b"]\n</parameter>\n</function>'
)
GLM = (
    "lookup_order\n<arg_key>order_id</arg_key>\n<arg_value>75001</arg_value>\n<arg_key>days"
    '</arg_key>\n<arg_value>3</arg_value>\n<arg_key>tags</arg_key>\n<arg_value>["a", "b"]'
    "</arg_value>\n"
)
PYTHON = "lookup_order(order_id='75001', days=3, tags=['a', 'b'])"
GEMMA = 'call:lookup_order{order_id:<|"|>75001<|"|>,days:3,tags:[<|"|>a<|"|>,<|"|>b<|"|>]}'
NAMED = f'{{"name": "lookup_order", "arguments": {JSON_ARGUMENTS}}}'
FORMS = {
    "ours": f"<tool_call>{NAMED}</tool_call>",
    "Hermes, Qwen": f"<tool_call>\n{NAMED}\n</tool_call>",
    "cut off before its end": f"<tool_call>\n{NAMED}",
    "Qwen3-Coder, Qwen3.5, Nemotron": f"<tool_call>\n{XML}\n</tool_call>",
    "without the mark around it": XML,
    "GLM": f"<tool_call>{GLM}</tool_call>",
    "Llama 3": f'{{"name": "lookup_order", "parameters": {JSON_ARGUMENTS}}}',
    "Llama 3 with its mark": (
        f'<|python_tag|>{{"name": "lookup_order", "parameters": {JSON_ARGUMENTS}}}'
    ),
    "gpt-oss": f" to=functions.lookup_order<|channel|>commentary json<|message|>{JSON_ARGUMENTS}",
    "gpt-oss as it speaks": (
        "<|channel|>commentary to=functions.lookup_order <|constrain|>json<|message|>"
        f"{JSON_ARGUMENTS}<|call|>"
    ),
    "Llama 4": f"[{PYTHON}]",
    "LFM2": f"<|tool_call_start|>[{PYTHON}]<|tool_call_end|>",
    "Mistral": f"[TOOL_CALLS] [{NAMED}]",
    "later Mistral": f"[TOOL_CALLS]lookup_order[ARGS]{JSON_ARGUMENTS}",
    "DeepSeek V3": (
        "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>function"
        f"<\uff5ctool\u2581sep\uff5c>lookup_order\n```json\n{JSON_ARGUMENTS}\n```"
        "<\uff5ctool\u2581call\u2581end\uff5c><\uff5ctool\u2581calls\u2581end\uff5c>"
    ),
    "DeepSeek V3.1": (
        "<\uff5ctool\u2581calls\u2581begin\uff5c><\uff5ctool\u2581call\u2581begin\uff5c>"
        f"lookup_order<\uff5ctool\u2581sep\uff5c>{JSON_ARGUMENTS}<\uff5ctool\u2581call\u2581end"
        "\uff5c><\uff5ctool\u2581calls\u2581end\uff5c>"
    ),
    "Gemma 4": f"<|tool_call>{GEMMA}<tool_call|>",
    "Granite, Phi-4": f"<|tool_call|>[{NAMED}]<|/tool_call|>",
    "Cohere": (
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "lookup_order", "parameters": '
        f"{JSON_ARGUMENTS}}}]<|END_ACTION|>"
    ),
    "OpenAI's object": (
        '<tool_call>{"type": "function", "function": {"name": "lookup_order", "arguments": '
        f"{json.dumps(JSON_ARGUMENTS)}}}}}</tool_call>"
    ),
}
BARE = ("Llama 3", "Llama 4")  # have no mark, and so no words before them


def calls_of(text: str) -> list[tuple[str, Any, str]]:
    spoken = read_message(to_canonical(text, (ORDER, PING)), (ORDER, PING))
    return [(call.name, call.arguments, call.error) for call in spoken.calls]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(form: str) -> None:
    assert calls_of(FORMS[form]) == [("lookup_order", ARGUMENTS, "")]
    if form not in BARE:
        text = to_canonical(f"One moment.\n{FORMS[form]}", (ORDER,))
        assert read_message(text).words == "One moment."
        assert calls_of(text) == [("lookup_order", ARGUMENTS, "")]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "ping"}</tool_call>\n<tool_call>{"name": "ping", "arguments": {}}',
        '{"name": "ping", "parameters": {}}; {"name": "ping", "parameters": {}}',
        "<|tool_call_start|>[ping(), ping()]<|tool_call_end|>",
        "[TOOL_CALLS]ping{}ping{}",
        "<tool_call>ping</tool_call><tool_call>ping\n</tool_call>",
        "<|tool_call>call:ping{}<tool_call|><|tool_call>call:ping{}<tool_call|> I look.",
        "<tool_call>\n<function=ping>\n</function>\n</tool_call>\n<tool_call>\n<function=ping>",
        '<tool_calls>[{"name": "ping"}, {"name": "ping", "arguments": null}]</tool_calls>',
    ],
)
def test_several_calls_are_several(text: str) -> None:
    assert calls_of(text) == [("ping", {}, "")] * 2


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>",
        "<tool_call>order 75001, please</tool_call>",
        '<tool_call>{"name": "lookup_order", "arguments": {"order_id": </tool_call>',
        "<tool_call>[1, 2]</tool_call>",
        "[TOOL_CALLS]lookup_order{oops",
        "<|tool_call>call:lookup_order{order_id:}<tool_call|>",
        "<|tool_call_start|>[lookup_order(order_id=open('x'))]<|tool_call_end|>",
        '{"name": "lookup_order", "parameters": {"order_id": "75',
    ],
)
def test_what_is_meant_as_a_call_and_broken_stays_one(text: str) -> None:
    ((_, _, error),) = calls_of(text)
    assert error.startswith("Error: ")


@pytest.mark.parametrize(
    "text", ["", "Your order is on its way.", '{"order": 3}', "[ok]", "a <b> c", "see f(x)"]
)
def test_what_calls_nothing_stays_as_it_is(text: str) -> None:
    assert to_canonical(text, (ORDER,)) == text


PIECES = st.sampled_from([*FORMS.values(), "<tool_call>", "</tool_call>", '{"name": "x"', "[", ";"])


@given(st.lists(PIECES | st.text(), max_size=4))
def test_any_text_can_be_read(pieces: list[str]) -> None:
    text = "".join(pieces)
    once = to_canonical(text, (ORDER, PING))
    read_message(once, (ORDER, PING))
    assert text.startswith(shown_words(text)) or shown_words(text) == ""


def test_what_is_shown_of_a_message_in_the_making() -> None:
    assert [shown_words("I look.\n<tool_call>{"[:n]) for n in (7, 9, 12, 21)] == ["I look."] * 4
    assert shown_words('{"name"') == ""
    assert shown_words("a < b") == "a < b" and shown_words("a <") == "a"
