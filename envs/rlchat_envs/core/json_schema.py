"""Values checked against a JSON schema: as much of it as the arguments of functions use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

_TYPES: Mapping[str, Callable[[object], bool]] = {
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: _is_number(v) and (isinstance(v, int) or float(v).is_integer()),  # type: ignore[arg-type]
    "number": lambda v: _is_number(v),
    "object": lambda v: isinstance(v, Mapping),
    "array": lambda v: isinstance(v, list),
    "null": lambda v: v is None,
}
_DEEPEST = 32  # references and lists of schemas inside one another


def fault(value: object, schema: object, name: str = "", root: Schema | None = None) -> str:
    """What is wrong with a value in a few words; empty if the schema allows it.

    Known are types, ``enum`` and ``const``, bounds of numbers, texts and lists, ``pattern``,
    ``properties``, ``required``, ``additionalProperties``, ``items``, ``anyOf``, ``oneOf``,
    ``allOf`` and ``$ref`` into the same schema. Other keywords forbid nothing.

    Args:
        value: as JSON has it.
        schema: what it must be like.
        name: what the value is called in the answer.
        root: the schema that references lead into; this one if None.
    """
    whole = root if root is not None else schema if isinstance(schema, Mapping) else {}
    return _fault(value, schema, name or "the value", whole, 0)


def types_of(schema: object, root: Schema | None = None) -> tuple[str, ...]:
    """The types that a schema names, those of its alternatives included; none if it names none."""
    whole = root if root is not None else schema if isinstance(schema, Mapping) else {}
    schema = _resolved(schema, whole)
    if not isinstance(schema, Mapping):
        return ()
    named = schema.get("type")
    if isinstance(named, str):
        return (named,)
    if isinstance(named, Sequence):
        return tuple(str(t) for t in named)
    choices = [c for key in ("anyOf", "oneOf") for c in _list(schema.get(key))]
    return tuple(dict.fromkeys(t for c in choices for t in types_of(_resolved(c, whole), {})))


def _fault(value: object, schema: object, name: str, root: Schema, depth: int) -> str:
    schema = _resolved(schema, root)
    if schema is False:
        return f"{name} is not allowed"
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return ""
    if wrong := _wrong_type(value, schema, name) or _wrong_value(value, schema, name):
        return wrong
    for part in _list(schema.get("allOf")):
        if wrong := _fault(value, part, name, root, depth + 1):
            return wrong
    for key in ("anyOf", "oneOf"):
        choices = _list(schema.get(key))
        wrongs = [_fault(value, choice, name, root, depth + 1) for choice in choices]
        if wrongs and all(wrongs):
            return wrongs[0]
    if isinstance(value, Mapping):
        return _wrong_property(value, schema, name, root, depth)
    if isinstance(value, list):
        for i, item in enumerate(value):
            if wrong := _fault(item, schema.get("items"), f"{name}[{i}]", root, depth + 1):
                return wrong
    return ""


def _wrong_type(value: object, schema: Schema, name: str) -> str:
    named = schema.get("type")
    types = [named] if isinstance(named, str) else _list(named)
    known = [t for t in types if isinstance(t, str) and t in _TYPES]
    if not known or (value is None and schema.get("nullable") is True):
        return ""
    if any(_TYPES[t](value) for t in known):
        return ""
    return f"{name} must be of type {' or '.join(known)}"


def _wrong_value(value: object, schema: Schema, name: str) -> str:
    """What is wrong with a value of the right type."""
    allowed = [schema["const"]] if "const" in schema else _list(schema.get("enum"))
    if allowed and not any(type(a) is type(value) and a == value for a in allowed):
        return f"{name} must be {' or '.join(map(str, allowed))}"
    if _is_number(value):
        return _out_of_bounds(value, schema, name, ("minimum", "maximum"))  # type: ignore[arg-type]
    if isinstance(value, str):
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and not _matches(pattern, value):
            return f"{name} must match {pattern}"
        return _out_of_bounds(len(value), schema, f"the length of {name}", _LENGTHS)
    if isinstance(value, list):
        return _out_of_bounds(len(value), schema, f"the length of {name}", ("minItems", "maxItems"))
    return ""


_LENGTHS = ("minLength", "maxLength")


def _out_of_bounds(value: float, schema: Schema, name: str, keys: tuple[str, str]) -> str:
    least, most = schema.get(keys[0]), schema.get(keys[1])
    if _is_number(least) and value < least:  # type: ignore[operator]
        return f"{name} must be at least {least}"
    if _is_number(most) and value > most:  # type: ignore[operator]
        return f"{name} must be at most {most}"
    return ""


def _wrong_property(
    value: Mapping[Any, Any], schema: Schema, name: str, root: Schema, depth: int
) -> str:
    properties = schema.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    others = schema.get("additionalProperties")
    for key in _list(schema.get("required")):
        if isinstance(key, str) and key not in value:
            return f"{key} is missing"
    for key, item in value.items():
        if key not in known and others is False:
            return f"there is no {key}"
        if wrong := _fault(item, known.get(key, others), str(key), root, depth + 1):
            return wrong
    return ""


def _resolved(schema: object, root: Schema) -> object:
    """A schema, or what its reference leads to."""
    for _ in range(_DEEPEST):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        found: object = root
        for step in reference.lstrip("#/").split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) and key else found
        schema = found
    return None


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # ECMAScript's, which Python does not know
        return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
