"""Token ids of declarations, calls and results, as a chat template writes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from rlchat.models.templates.forging import Guard
from rlchat.models.templates.rendering import Rendering
from rlchat.models.templates.tools import (
    Exchange,
    declarations,
    safe_calls,
    safe_tools,
    with_plain_declarations,
)
from rlchat_envs import Conversation, Tool, read_message, write_call
from rlchat_envs.core.tools import Spoken, in_words, write_message


def by_response_template(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], tools: Sequence[Tool]
) -> str:
    """A message that calls functions in a form that only the model's maker describes.

    transformers reads it by the tokenizer's ``response_template``. It gives up where a call is
    broken, and so it is asked only where no form that is known here was found.

    Returns:
        The message in the form that environments read; empty if it calls nothing.
    """
    if getattr(tokenizer, "response_template", None) is None:
        return ""
    declared: Any = [tool.declaration for tool in tools]
    try:
        parsed: Any = tokenizer.parse_response(list(ids), prefix="", tools=declared)
        called = [call.get("function", call) for call in parsed.get("tool_calls") or []]
        calls = [write_call(c["name"], c.get("arguments") or {}) for c in called]
    except Exception:  # a template is somebody's program and may raise anything
        return ""
    return write_message(str(parsed.get("content") or ""), calls) if calls else ""


Pieces = tuple[tuple[str, ...], list[str]]


@dataclass(frozen=True)
class Encoders:
    """How a chat template's tokenizer makes ids.

    Attributes:
        template: Of a string that the template writes.
        reply: Of an agent's text.
        pieces: Of the template's strings and the texts between them, right after a turn.
    """

    template: Callable[[str], list[int]]
    reply: Callable[[str], list[int]]
    pieces: Callable[[Sequence[str], Sequence[str]], list[int]]


class CallTokens:
    """Writes what functions have to do with; where the template has no way, in a plain one.

    Attributes:
        end: The id that ends a turn which calls functions; None where the template has no such
            turns, and calls are texts as all others.
        safe: Takes a template's marks out of what is inside declarations and calls.
    """

    def __init__(
        self,
        rendering: Rendering,
        encoders: Encoders,
        stop_ids: Collection[int],
        marks: Collection[int],
    ):
        """Ask the template.

        Args:
            rendering: of the template.
            encoders: of its tokenizer.
            stop_ids: ids that end a turn.
            marks: ids of added tokens.
        """
        self._rendering, self._encoders = rendering, encoders
        self._exchange = Exchange(rendering)
        self._declaring: dict[tuple[Tool, ...], Rendering] = {}
        self.safe = Guard(())
        self.end = self._find_end(stop_ids, marks) if self._exchange.supported else None
        self.stop_ids = frozenset({*stop_ids, *([] if self.end is None else [self.end])})

    def segments(self) -> list[tuple[str, ...]]:
        """What the template writes around results, for whoever looks for its marks."""
        return [] if self.end is None else self._exchange.segments()

    def opening(self, messages: Conversation, tools: tuple[Tool, ...]) -> Pieces:
        """Strings and texts of an opening that declares functions."""
        if self.end is None:
            plain = in_words(safe_tools(tools, self.safe))
            return with_plain_declarations(self._rendering, messages, plain)
        if tools not in self._declaring:
            declaring = self._rendering.declaring(declarations(tools, self.safe))
            self._declaring[tools] = declaring
        return self._declaring[tools].pieces(messages, first=True)

    def reply(self, text: str, guard: Guard, end: Sequence[int]) -> list[int] | None:
        """Token ids of a message that calls functions, end included; None if it calls none.

        Args:
            text: the message.
            guard: for its words.
            end: what closes other turns.
        """
        spoken = read_message(text)
        if not spoken.calls:
            return None
        broken = any(not call.name for call in spoken.calls)
        if self.end is not None and not broken:
            return self._as_template(spoken, guard)
        calls = [write_call(call.name, call.arguments) for call in spoken.calls]
        said = text if broken else write_message(guard(spoken.words), calls)
        return [*self._encoders.reply(self._rendering.said(said)), *end]

    def after(self, said: str, messages: Conversation, cut: bool) -> list[int] | None:
        """Token ids of results, and of what else follows a turn that calls functions.

        Args:
            said: the turn's text.
            messages: what follows.
            cut: the turn has no end, so it is written here.

        Returns:
            None if the turn calls none, or if what follows is as after any other turn.
        """
        if self.end is None or not messages or messages[0].role != "tool":
            return None
        calls = read_message(said).calls
        if not calls:
            return None
        names = [self.safe(call.name) or "unknown" for call in calls]
        ids = self._encoders.pieces(*self._exchange.results(names, messages))
        end = next(i for i, token in enumerate(ids) if token in self.stop_ids)
        return ids[end if cut else end + 1 :]

    def _as_template(self, spoken: Spoken, guard: Guard) -> list[int]:
        calls, words = safe_calls(spoken.calls, self.safe), self._words(spoken, guard)
        around = self._exchange.around_words(calls) if words else None
        ids = self._encoders.reply(around[0] + words) if around else []
        end = 0 if self.end is None else self.end
        for i, string in enumerate([around[1]] if around else self._exchange.calls(calls)):
            ids += self._encoders.template("\n") if i else []
            called = self._encoders.template(string)
            stops = [n for n, token in enumerate(called) if token in self.stop_ids]
            ids += called[: stops[0]] if stops else called
            end = called[stops[0]] if stops else end
        return [*ids, end]

    def _words(self, spoken: Spoken, guard: Guard) -> str:
        return guard(self._rendering.handled("assistant", spoken.words))

    def _find_end(self, stop_ids: Collection[int], marks: Collection[int]) -> int | None:
        """A known id that ends such a turn, or else the last mark of what is written of it.

        Behind that one a model would write the results itself.
        """
        alone, followed = (self._encoders.template(text) for text in self._exchange.end)
        known = [i for i in followed if i in stop_ids]
        last = [i for i in alone if i in marks][-1:]
        return next(iter(known or last), None)
