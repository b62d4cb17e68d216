"""Functions that an environment declares, and calls of them in an agent's message.

An action is text, and so is a call in it. There is one form for all models, which `write_call`
writes and `read_message` reads:

    <tool_call>{"name": "lookup_order", "arguments": {"order_number": "B4821"}}</tool_call>
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlchat_envs.core.json_schema import fault

OPENS, CLOSES = "<tool_call>", "</tool_call>"
FORM = OPENS + '{"name": ..., "arguments": {...}}' + CLOSES
_PLAIN = (
    "You can call functions. To call one, write " + FORM + " and nothing else; the next message "
    "is what it gives. The functions:"
)
_CALL = re.compile(rf"{OPENS}(.*?)(?:{CLOSES}|(?={OPENS})|\Z)", re.DOTALL)
_MARKED = OPENS[1:]
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)
_SHOWN = 60  # characters of a value in a readable call
Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that an agent may call, as its environment declares it.

    Attributes:
        name: Of the function.
        text: The declaration as JSON, ``{"type": "function", "function": {…}}``.
    """

    name: str
    text: str

    @classmethod
    def of(cls, name: str, description: str, parameters: Mapping[str, Any]) -> Tool:
        """Declare a function.

        Args:
            name: of letters, digits and underscores.
            description: says what it is for.
            parameters: JSON schema of its arguments, an object.

        Raises:
            ValueError: it is no such declaration.
        """
        function = {"name": name, "description": description, "parameters": dict(parameters)}
        return read_tool({"type": "function", "function": function})

    @property
    def declaration(self) -> dict[str, Any]:
        """The declaration in the shape that transformers and OpenAI's clients take."""
        declared: dict[str, Any] = json.loads(self.text)
        return declared

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of its arguments; one of no arguments if none is declared."""
        schema: dict[str, Any] = self.declaration["function"].get("parameters") or {}
        return schema or {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function.

    Attributes:
        name: The function's; empty if none can be read.
        arguments: By name.
        error: What is wrong with the call, as its result; empty if nothing is.
    """

    name: str
    arguments: Arguments = field(default_factory=dict)
    error: str = ""

    def __str__(self) -> str:
        """The call for people to read."""
        if not self.name:
            return "a call that cannot be read"
        given = (f"{key}={_short(value)}" for key, value in self.arguments.items())
        return f"{self.name}({', '.join(given)})"


@dataclass(frozen=True, slots=True)
class Spoken:
    """An agent's message: what it says, and the functions that it calls."""

    words: str
    calls: tuple[Call, ...] = ()


def read_tools(declared: object) -> tuple[Tool, ...]:
    """The functions of a list of declarations.

    Raises:
        ValueError: it is no such list.
    """
    if not isinstance(declared, Sequence) or isinstance(declared, str | bytes):
        raise ValueError(f"expected a list of functions; got {type(declared).__name__}")
    tools = tuple(t if isinstance(t, Tool) else read_tool(t) for t in declared)
    names = [tool.name for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"expected functions with names of their own; got {twice} twice")
    return tools


def read_tool(declared: object) -> Tool:
    """A declaration, as transformers and OpenAI's clients take it.

    Raises:
        ValueError: it is none.
    """
    function = declared.get("function") if isinstance(declared, Mapping) else None
    if not isinstance(function, Mapping) or declared.get("type", "function") != "function":  # type: ignore[attr-defined]
        raise ValueError('expected functions declared as {"type": "function", "function": {…}}')
    name, about = function.get("name"), function.get("description", "")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"expected a function's name of letters, digits and _; got {name!r:.80}")
    if not isinstance(about, str):
        raise ValueError(f"expected the description of {name} to be text")
    schema = function.get("parameters") or {}
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        raise ValueError(
            f'expected the parameters of {name} as a JSON schema with "type": "object"'
        )
    if not isinstance(schema.get("properties", {}), Mapping):
        raise ValueError(f"expected the properties in the parameters of {name} by name")
    try:
        text = json.dumps(declared, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected a declaration of {name} that JSON can hold") from error
    return Tool(name, text)


def write_call(name: str, arguments: Arguments) -> str:
    """A call in the form that environments read."""
    called = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
    if _MARKED in called:  # which it can be inside a JSON string alone, where it may be escaped
        called = called.replace("<", "\\u003c")
    return f"{OPENS}{called}{CLOSES}"


def write_message(words: str, calls: Sequence[str]) -> str:
    """A message of words and of calls that `write_call` has written."""
    return "\n".join(part for part in (words.strip(), *calls) if part)


def in_words(tools: Sequence[Tool]) -> str:
    """Declarations for models that are told of functions in words, and how a call is written."""
    functions = [tool.declaration["function"] for tool in tools]
    return "\n".join([_PLAIN, *(json.dumps(f, ensure_ascii=False) for f in functions)])


def with_calls(words: str, called: object) -> str | None:
    """A message whose calls stand beside its words.

    Args:
        words: what it says.
        called: ``tool_calls`` as transformers and OpenAI's servers have them.

    Returns:
        Both in the form that environments read; None if they are no calls.
    """
    calls = []
    for call in called if isinstance(called, Sequence) and not isinstance(called, str) else [None]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(name, str):
            return None
        arguments = function.get("arguments")
        if isinstance(arguments, str):  # as OpenAI's are
            calls.append(_of_text(name, arguments))
        elif arguments is None or isinstance(arguments, Mapping):
            calls.append(write_call(name, arguments or {}))
        else:
            return None
    return write_message(words, calls)


def _of_text(name: str, arguments: str) -> str:
    """A call whose arguments are written as JSON; if they are none, it stays broken."""
    try:
        given = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        given = None
    if isinstance(given, Mapping):
        return write_call(name, given)
    broken = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"{OPENS}{broken.replace(_MARKED, '')}{CLOSES}"


def read_message(text: str, tools: Sequence[Tool] = ()) -> Spoken:
    """What an agent's message says and calls.

    Args:
        text: the message.
        tools: those that are declared; calls are checked against them, if there are any.
    """
    if OPENS not in text:
        return Spoken(text)
    words = " ".join(part.strip() for part in _CALL.split(text)[::2]).replace(CLOSES, "")
    return Spoken(words.strip(), tuple(_read_call(m[1], tools) for m in _CALL.finditer(text)))


def _read_call(text: str, tools: Sequence[Tool]) -> Call:
    try:
        called = json.loads(text)
    except (ValueError, RecursionError):
        called = None
    name = called.get("name") if isinstance(called, Mapping) else None
    if not isinstance(called, Mapping) or not isinstance(name, str) or not name:
        return Call("", error=f"Error: expected a call as {FORM}; got something else.")
    arguments = called.get("arguments", {})
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        return Call(name, error=f"Error: expected the arguments of {name} as a JSON object.")
    return Call(name, arguments, _fault(name, arguments, tools) if tools else "")


def _fault(name: str, arguments: Arguments, tools: Sequence[Tool]) -> str:
    known = {tool.name: tool for tool in tools}
    if name not in known:
        return f"Error: there is no function {name:.80}; there is {', '.join(known)}."
    schema = known[name].parameters
    # Nothing is ignored: an argument that the schema does not name is a mistake.
    wrong = fault(arguments, {"additionalProperties": False, **schema}, "the arguments", schema)
    return f"Error: {name}: {wrong:.200}." if wrong else ""


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
