"""What a chat template writes of functions: their declaration, calls of them, and results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlchat.models.templates.marking import UnwrittenError
from rlchat.models.templates.rendering import Rendering
from rlchat.models.templates.thoughts import spoken
from rlchat_envs import Conversation, Message
from rlchat_envs.core.tools import Call, Tool, read_tool

_USER, _WORDS, _ARGUMENT, _TEXT, _THOUGHT = (
    f"\u2042{name}\u2042" for name in ("u", "w", "a", "t{}", "thought")
)
_PROBE = Tool.of("find_it", "Finds it.", {"type": "object", "properties": {}})
_FOUND = Message("tool", "x")
Safe = Callable[[str], str]
_Shape = tuple[tuple[str, bool], ...]  # roles of messages, and whether they have text


def declarations(tools: Sequence[Tool], safe: Safe) -> list[dict[str, Any]]:
    """Declarations as transformers takes them, with no marks of a template in their texts."""
    return [_safe(tool.declaration, safe) for tool in tools]


def safe_tools(tools: Sequence[Tool], safe: Safe) -> list[Tool]:
    """Functions with no marks of a template in their declarations."""
    return [read_tool(declared) for declared in declarations(tools, safe)]


def safe_calls(calls: Sequence[Call], safe: Safe) -> tuple[Call, ...]:
    """Calls with no marks of a template in their texts."""
    return tuple(Call(safe(c.name), _safe(c.arguments, safe)) for c in calls)


def _safe(value: Any, safe: Safe) -> Any:
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, Mapping):
        return {safe(str(key)): _safe(item, safe) for key, item in value.items()}
    return [_safe(item, safe) for item in value] if isinstance(value, list) else value


def with_plain_declarations(
    rendering: Rendering, messages: Conversation, declared: str, answered: bool
) -> tuple[tuple[str, ...], list[str]]:
    """Strings and texts of an opening that begins with functions; see `Rendering.pieces`.

    They stand before the system message's own text, where the template puts that, and count as
    the template's: nothing of them is cut.
    """
    system = messages[0].content if messages[0].role == "system" else ""
    rest = messages[1:] if messages[0].role == "system" else messages
    whole = f"{declared}\n\n{system}" if system else declared
    strings, texts = rendering.pieces((Message("system", whole), *rest), True, answered)
    if not texts[0].startswith(declared):
        return strings, texts
    left = texts[0].removeprefix(declared)
    own = left.lstrip("\n")
    begun = strings[0] + declared + left[: len(left) - len(own)]
    if own:
        return (begun, *strings[1:]), [own, *texts[1:]]
    return (begun + strings[1], *strings[2:]), texts[1:]


class Exchange:
    """Calls and results as a template writes them.

    Attributes:
        supported: Whether it declares functions, writes calls where an agent's text would begin,
            and results after them.
    """

    def __init__(self, rendering: Rendering):
        """Ask the template."""
        self._rendering = rendering
        self._known: dict[tuple[tuple[str, ...], _Shape, bool], tuple[str, ...]] = {}
        self.supported, self._trims, self._quotes = False, False, False
        if rendering.in_lines:
            return
        try:
            self.supported = self._finds_its_place()
        except Exception:  # a template is somebody's program and may raise anything
            return

    def calls(self, calls: Sequence[Call]) -> list[str]:
        """What is written after the prompt by an agent that calls functions, up to the end.

        It is one string, or one for each call where the template writes one call at most.
        """
        try:
            return [self._after_prompt(calls, "")]
        except Exception:
            if len(calls) < 2:
                raise
            return [self._after_prompt([call], "") for call in calls]

    def around_words(self, calls: Sequence[Call]) -> tuple[str, str] | None:
        """What is written before and after an agent's words that stand before its calls.

        Returns:
            None if the template has no place for words there.
        """
        try:
            before, found, after = self._after_prompt(calls, _WORDS).partition(_WORDS)
        except Exception:
            return None
        return (before, after) if found and all(call.name in after for call in calls) else None

    def results(
        self, names: Sequence[str], messages: Conversation, answered: bool = False
    ) -> tuple[tuple[str, ...], list[str]]:
        """What is written after the arguments of a call: its end, results, and the next prompt.

        Args:
            names: of the functions that were called.
            messages: results, and what else follows.
            answered: what is written once the next turn lies behind; see `Rendering.pieces`.

        Returns:
            Strings and the texts between them, as `Rendering.pieces` gives them.
        """
        texts = [self._handled(m) for m in messages]
        shape = tuple((m.role, bool(t)) for m, t in zip(messages, texts, strict=True))
        key = tuple(names), shape, answered
        if key not in self._known:
            self._known[key] = self._ask(*key)
        return self._known[key], [text for text in texts if text]

    def segments(self) -> list[tuple[str, ...]]:
        """What it writes around results, for whoever looks for its marks."""
        return [self.results([_PROBE.name], (_FOUND, _FOUND))[0]] if self.supported else []

    @property
    def end(self) -> tuple[str, str]:
        """What follows a call's arguments where nothing comes after it, and where a result does."""
        alone = self._after_prompt([Call(_PROBE.name, {"x": _ARGUMENT})], "")
        return alone.partition(_ARGUMENT)[2], self.results([_PROBE.name], (_FOUND,))[0][0]

    def _finds_its_place(self) -> bool:
        declaring = self._rendering.declaring([_PROBE.declaration])
        strings, _ = declaring.pieces((Message("user", "x"),), first=True)
        if not any(_PROBE.name in string for string in strings):
            return False
        written = self._after_prompt([Call(_PROBE.name, {"x": _ARGUMENT})], "")
        alone, followed = self.end
        self._trims, self._quotes = self._handling()
        return _PROBE.name in written and _ARGUMENT in written and followed.startswith(alone)

    def _handling(self) -> tuple[bool, bool]:
        """Whether the template strips results, and whether it quotes them as JSON does."""
        talk = [*self._called([_PROBE.name]), _result(f"  {_TEXT}  ", _PROBE.name, 0)]
        spaced = self._rendering.render(talk, prompt=True)
        talk[-1] = _result(f'{_TEXT}"\n{_TEXT}', _PROBE.name, 0)
        quoted = self._rendering.render(talk, prompt=True)
        return f"  {_TEXT}  " not in spaced, f'{_TEXT}\\"\\n{_TEXT}' in quoted

    def _handled(self, message: Message) -> str:
        if message.role != "tool":
            return self._rendering.handled(message.role, message.content)
        text = message.content.strip() if self._trims else message.content
        return json.dumps(text, ensure_ascii=False)[1:-1] if self._quotes else text

    def _after_prompt(self, calls: Sequence[Call], words: str) -> str:
        """What is written of a message that calls functions, without the prompt."""
        talk = [_said("user", _USER), _said("assistant", words, calls)]
        written = self._rendering.render(talk, prompt=False).partition(_USER)[2]
        asked = self._rendering.pieces((Message("user", "x"),), first=True)[0][-1]
        earlier = [_said("user", "x"), _said("assistant", _TEXT), _said("user", "x")]
        header = self._rendering.render(earlier, prompt=True).partition(_TEXT)[0]
        opened = self._rendering.pieces((Message("user", "x"),), first=True)[0][0] + "x"
        for start in (asked, header.removeprefix(opened)):
            if start and written.startswith(start):
                return written.removeprefix(start)
        raise UnwrittenError

    def _called(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """A conversation whose last message calls functions, the last with a mark in it."""
        marked = [Call(name, {"x": _ARGUMENT if name is names[-1] else ""}) for name in names]
        marked[-1] = Call(names[-1], {"x": _ARGUMENT})
        return [_said("user", _USER), _said("assistant", "", marked)]

    def _ask(self, names: tuple[str, ...], shape: _Shape, answered: bool) -> tuple[str, ...]:
        talk: list[dict[str, Any]] = []
        order = 0
        for i, (role, has_text) in enumerate(shape):
            text = _TEXT.format(i) if has_text else ""
            if role == "tool":
                talk.append(_result(text, names[min(order, len(names) - 1)], order))
                order += 1
            else:
                talk.append(_said(role, text))
        thoughts = self._rendering.thoughts
        if answered and thoughts is not None:
            talk += [spoken(thoughts.field, _THOUGHT, _WORDS), _said("user", "x")]
        try:
            written = self._rendering.render([*self._called(names), *talk], prompt=True)
        except Exception:  # some write one call at most
            written = self._rendering.render([*self._called(names[-1:]), *talk], prompt=True)
        rest = written.rpartition(_ARGUMENT)[2]
        strings = []
        for i, (_, has_text) in enumerate(shape):
            if has_text:
                piece, found, rest = rest.partition(_TEXT.format(i))
                if not found:
                    raise UnwrittenError
                strings.append(piece)
        if answered:
            rest = rest.partition(_WORDS)[0]
            if _THOUGHT in rest:  # which stays: then the turn begins as its prompt did
                return self._ask(names, shape, answered=False)
        return (*strings, rest)


def _said(role: str, text: str, calls: Sequence[Call] = ()) -> dict[str, Any]:
    message: dict[str, Any] = {"role": role, "content": text}
    if calls:
        message["tool_calls"] = [
            {
                "id": _id(i),
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for i, call in enumerate(calls)
        ]
    return message


def _result(text: str, name: str, order: int) -> dict[str, Any]:
    return {"role": "tool", "content": text, "name": name, "tool_call_id": _id(order)}


def _id(order: int) -> str:
    return f"call{order:05}"  # of nine letters and digits, as Mistral's templates want it
