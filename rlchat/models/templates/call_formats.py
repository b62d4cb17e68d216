"""Calls of functions in the forms that models write them, read into the one that environments read.

What is clearly meant as a call and cannot be read stays one, as a call that is broken: its
environment says what is wrong with it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rlchat_envs.core.json_schema import types_of
from rlchat_envs.core.tools import CLOSES, OPENS, Tool, write_call, write_message

# DeepSeek's marks have bars of full width.
_CALLS_BEGIN = "<\uff5ctool\u2581calls\u2581begin\uff5c>"
_CALL_BEGINS = "<\uff5ctool\u2581call\u2581begin\uff5c>"
_SEPARATOR = "<\uff5ctool\u2581sep\uff5c>"
_BEGINS = (
    OPENS,
    "<|tool_call>",
    "<|tool_call|>",
    "<|tool_call_start|>",
    "<tool_calls>",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<|START_ACTION|>",
    _CALLS_BEGIN,
    _CALL_BEGINS,
    "<functioncall>",
    "<function=",
)
_BEGIN = re.compile("|".join(map(re.escape, _BEGINS)))
_MARKS = re.compile(
    r"</?tool_calls?>|<\|/?tool_call(?:_start|_end)?\|?>|<tool_call\|>|\[/?TOOL_CALLS\]"
    r"|<\|python_tag\|>|<\|(?:START|END)_ACTION\|>|</?functioncall>"
    r"|<\uff5ctool\u2581calls?\u2581(?:begin|end)\uff5c>"
)
_CLOSING = re.compile(
    r"</.*|<\|/.*|\[/.*|.*_end\|>|.*\u2581end\uff5c>|.*END_ACTION\|>|<tool_call\|>"
)
_FUNCTION = re.compile(r"<function=([^>\n]+)>(.*?)(?:</function>|(?=<function=)|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)
_GLM = re.compile(r"\s*([\w.-]+)\s*((?:<arg_key>.*)?)\Z", re.DOTALL)
_ARGUMENT = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)(?:</arg_value>|\Z)", re.DOTALL)
_GEMMA = re.compile(r"\s*call:([\w.-]+)\s*(\{.*\})\s*\Z", re.DOTALL)
_QUOTE, _KEY = '<|"|>', re.compile(r"([{,]\s*)([\w.-]+)\s*:")
# gpt-oss names the function in the header of a message, before its channel or behind it.
_CHANNEL = re.compile(
    r"(?:<\|start\|>assistant)?(?:<\|channel\|>commentary)?\s*to=functions\.([\w.-]+)[^{}\[\]]*?"
    r"<\|message\|>(.*?)(?:<\|call\|>|\Z)",
    re.DOTALL,
)
_DEEPSEEK_CALL = re.compile(
    rf"(?:function)?{_SEPARATOR}([\w.-]+)\s*(?:```json)?(.*?)(?:```)?\Z", re.DOTALL
)

_NAMED = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(?:\[ARGS\])?\s*(?=\{)")
_DECODER = json.JSONDecoder()

Found = tuple[str, Any]  # a name, and arguments
Reader = Callable[[str, Sequence[Tool]], list[Found]]


def to_canonical(text: str, tools: Sequence[Tool]) -> str:
    """A model's message with its calls in the form that environments read.

    Args:
        text: as the model wrote it, its marks included.
        tools: the functions that are declared.

    Returns:
        The message; as it was, if it calls nothing.
    """
    unnamed, text = text, _CHANNEL.sub(_named_before, text)
    start = _where_calls_begin(text)
    if start is None:
        return unnamed
    words, rest = text[:start], text[start:]
    calls = [_written(found, tools) for found in _found(rest, tools)]
    return write_message(words, calls)


def shown_words(text: str) -> str:
    """As much of an unfinished message as is surely no call, nor the beginning of one."""
    if text.lstrip()[:1] in ("{", "["):  # which may become one, as Llama's have no mark
        return ""
    if mark := _BEGIN.search(text):
        return text[: mark.start()].rstrip()
    for length in range(min(len(text), max(map(len, _BEGINS)) - 1), 0, -1):
        if any(mark.startswith(text[-length:]) for mark in _BEGINS):
            return text[:-length].rstrip()
    return text


def _named_before(match: re.Match[str]) -> str:
    """A call of gpt-oss in the form of Mistral, which has the name before the arguments, too."""
    return f"[TOOL_CALLS]{match[1]}[ARGS]{match[2]}"


def _where_calls_begin(text: str) -> int | None:
    if mark := _BEGIN.search(text):
        return mark.start()
    bare = text.strip()
    named = bare.startswith("{") and '"name"' in bare and _has_arguments(bare)
    return text.index(bare[0]) if named or _is_python_list(bare) else None


def _has_arguments(text: str) -> bool:
    return '"parameters"' in text or '"arguments"' in text


def _is_python_list(text: str) -> bool:
    return bool(re.match(r"\[\s*[A-Za-z_][\w.]*\(", text)) and text.endswith("]")


def _found(rest: str, tools: Sequence[Tool]) -> Iterator[Found | str]:
    """Calls, and pieces that are meant as calls and cannot be read."""
    for piece in _pieces(rest):
        try:
            read = next((found for reader in _READERS if (found := reader(piece, tools))), [])
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            read = []
        if not read:
            yield piece
        yield from read


def _pieces(rest: str) -> list[str]:
    """What stands behind the marks that open calls; there is a piece, if an empty one."""
    pieces, inside, start = [], True, 0
    for mark in _MARKS.finditer(rest):
        pieces += [rest[start : mark.start()].strip()] if inside else []
        inside, start = _CLOSING.fullmatch(mark[0]) is None, mark.end()
    pieces += [rest[start:].strip()] if inside else []
    return [piece for piece in pieces if piece] or [""]


def _written(found: Found | str, tools: Sequence[Tool]) -> str:
    if isinstance(found, str):
        return f"{OPENS}{found}{CLOSES}"
    name, arguments = found
    if isinstance(arguments, str):  # some write the object as a string
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return f"{OPENS}{json.dumps({'name': name, 'arguments': arguments})}{CLOSES}"
    if not isinstance(arguments, Mapping):
        arguments = {} if arguments is None else {"arguments": arguments}
    return write_call(name, arguments)


def _read_json(piece: str, tools: Sequence[Tool]) -> list[Found]:
    """Objects with a name and arguments, one after the other or in a list."""
    found: list[Found] = []
    while piece := piece.lstrip(" \t\r\n;,"):
        value, end = _DECODER.raw_decode(piece)
        for called in value if isinstance(value, list) else [value]:
            found.append(_of_object(called))
        piece = piece[end:]
    return found


def _of_object(called: Any) -> Found:
    if isinstance(called, Mapping) and isinstance(called.get("function"), Mapping):
        called = called["function"]
    if not isinstance(called, Mapping):
        raise TypeError
    name = called.get("name", called.get("tool_name"))
    if not isinstance(name, str) or not name:
        raise TypeError
    keys = ("arguments", "parameters", "args")
    return name, next((called[key] for key in keys if key in called), {})


def _read_named(piece: str, tools: Sequence[Tool]) -> list[Found]:
    """A name before its arguments, as Mistral's later models have it."""
    found: list[Found] = []
    while match := _NAMED.match(piece):
        arguments, end = _DECODER.raw_decode(piece, match.end())
        found.append((match[1], arguments))
        piece = piece[end:]
    return [] if piece.strip() else found


def _read_xml(piece: str, tools: Sequence[Tool]) -> list[Found]:
    """``<function=…>`` with a ``<parameter=…>`` each, as Qwen3.5's and Nemotron's have it."""
    return [
        (name, _typed(name, {k: _inner(v) for k, v in _PARAMETER.findall(body)}, tools))
        for name, body in _FUNCTION.findall(piece)
    ]


def _inner(text: str) -> str:
    """A value without the line breaks around it, which are the form's."""
    return text.removeprefix("\n").removesuffix("\n")


def _read_glm(piece: str, tools: Sequence[Tool]) -> list[Found]:
    match = _GLM.fullmatch(piece)
    if match is None or not (match[2] or any(match[1] == tool.name for tool in tools)):
        return []
    given = {key.strip(): value for key, value in _ARGUMENT.findall(match[2])}
    return [(match[1], _typed(match[1], given, tools))]


def _read_gemma(piece: str, tools: Sequence[Tool]) -> list[Found]:
    """``call:name{key:value}``, whose texts stand between marks of their own."""
    match = _GEMMA.match(piece)
    if match is None:
        return []
    out = []
    for i, part in enumerate(match[2].split(_QUOTE)):
        out.append(json.dumps(part) if i % 2 else _KEY.sub(r'\1"\2":', part))
    return [(match[1], json.loads("".join(out)))]


def _read_deepseek(piece: str, tools: Sequence[Tool]) -> list[Found]:
    if (match := _DEEPSEEK_CALL.match(piece)) is not None:
        return [(match[1], json.loads(match[2]))]
    name, mark, arguments = piece.partition(_SEPARATOR)
    return [(name.strip(), json.loads(arguments))] if mark else []


def _read_python(piece: str, tools: Sequence[Tool]) -> list[Found]:
    """``[name(key='value')]``, as LFM2's and Llama 4's have it."""
    if not re.match(r"\[?\s*[A-Za-z_][\w.]*\(", piece):
        return []
    parsed = ast.parse(piece, mode="eval").body
    calls = parsed.elts if isinstance(parsed, ast.List) else [parsed]
    return [_of_python(call, tools) for call in calls]


def _of_python(call: ast.expr, tools: Sequence[Tool]) -> Found:
    if not isinstance(call, ast.Call):
        raise TypeError
    name = ast.unparse(call.func)
    given = {str(k.arg): _literal(k.value) for k in call.keywords if k.arg}
    schema = next((tool.parameters for tool in tools if tool.name == name), {})
    for key, value in zip(schema.get("properties", {}), call.args, strict=False):
        given[key] = _literal(value)
    return name, given


_WORDS = {"true": True, "false": False, "null": None}


def _literal(value: ast.expr) -> Any:
    if isinstance(value, ast.Name) and value.id in _WORDS:
        return _WORDS[value.id]
    return ast.literal_eval(value)  # literals alone: nothing is run


def _typed(name: str, given: Mapping[str, str], tools: Sequence[Tool]) -> dict[str, Any]:
    """Values that are written as bare text: what they are is in the declaration."""
    schema = next((tool.parameters for tool in tools if tool.name == name), {})
    properties = schema.get("properties", {})
    named = {key.strip(): text for key, text in given.items()}
    return {k: _value(text, types_of(properties.get(k), schema)) for k, text in named.items()}


def _value(text: str, types: tuple[str, ...]) -> Any:
    if "string" in types:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text.strip(), text)


_READERS: tuple[Reader, ...] = (
    _read_xml,
    _read_gemma,
    _read_deepseek,
    _read_python,
    _read_named,
    _read_glm,
    _read_json,
)
