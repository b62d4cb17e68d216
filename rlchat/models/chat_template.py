"""Text to tokens and back: the one module that writes conversations as a model reads them.

A conversation is written in tokens once and then only appended to. What a policy sampled stays as
it was sampled; no text of anybody's can turn into template tokens, and no earlier token ever
changes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from rlchat.errors import UserError
from rlchat.models.templates.call_formats import to_canonical
from rlchat.models.templates.call_tokens import CallTokens, Encoders, by_response_template
from rlchat.models.templates.cuts import MAX_MESSAGE_TOKENS, Cuts
from rlchat.models.templates.forging import Guard, ordinary_marks
from rlchat.models.templates.rendering import Rendering
from rlchat_envs import Conversation, Message, Tool, declared

# What is said where it is found out whether texts can be tokenized by themselves.
_SYSTEM, _ASKED = Message("system", "You are a desk."), Message("user", "Hello there. Where is it?")
_FOUND = Message("tool", "Order A-17: shipped.")


@dataclass(frozen=True, slots=True)
class TokenizedConversation:
    """A conversation as token ids, and which of them are an agent's (end-of-turn included)."""

    ids: list[int]
    action_mask: list[bool]


class ChatTemplate:
    """A tokenizer's chat template, taken apart into pieces that messages are written with.

    An opening is what the template writes, token for token; what follows a turn is what it writes
    after that. Only what it would take back later stays: the empty thought, with which templates
    that think write that there is none. Tokenizers without a template get plain ``User:`` /
    ``Assistant:`` lines. A role that the template does not know is written as a user's message with
    the role's name before it, a system message as the beginning of the first user's.

    Nobody can write another's marks: special tokens in a text are plain characters, other marks
    are rewritten (``[desk]`` is ``(desk)``), and in plain lines the later lines of a text are
    indented.

    Functions that a conversation declares with its first message are declared as the template
    does it, and calls and results are written so; where it has no way, declarations stand in the
    system message, and calls are texts.

    Attributes:
        end_of_turn: the id that is written at the end of an agent's turn.
        stop_ids: all ids that end a turn if they are sampled.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_message_tokens: int = MAX_MESSAGE_TOKENS,
        stop_ids: Collection[int] = (),
    ):
        """Take the template apart.

        Args:
            tokenizer: any tokenizer with an end-of-sequence token.
            max_message_tokens: longer messages that are not the agent's own are cut here.
            stop_ids: ids that end a turn, as the model's maker says; see `stop_ids_of`.

        Raises:
            UserError: no end token, or a template that cannot be appended to.
        """
        if tokenizer.eos_token_id is None:
            raise UserError(
                "expected a tokenizer with an end-of-sequence token; this one has none; "
                "choose an instruction-tuned model"
            )
        self.tokenizer, self.cuts = tokenizer, Cuts(max_message_tokens)
        try:
            self._rendering = Rendering(tokenizer)
            segments = self._rendering.segments()
        except Exception as error:  # a template is somebody's program and may raise anything
            raise UserError(
                "expected a chat template in which messages follow one another unchanged; this "
                "model's differs; choose another model"
            ) from error
        self._encoded: dict[str, list[int]] = {}  # what templates write, often
        self._added = tokenizer.added_tokens_decoder
        eos = int(tokenizer.eos_token_id)
        self.stop_ids = frozenset({eos, *(i for i in stop_ids if i in self._added)})
        self._close = self._find_close()
        self.end_of_turn = self._close[-1] if self._close else eos
        self.stop_ids |= {self.end_of_turn}
        encoders = Encoders(self._tokenize, self._encode_reply, self._encode_after)
        self._calls = CallTokens(self._rendering, encoders, self.stop_ids, self._added)
        self.stop_ids = self._calls.stop_ids
        segments += self._calls.segments()
        self._specials = set(tokenizer.all_special_ids) | self.stop_ids
        special = {token.content for token in self._added.values() if token.special}
        marks: set[str] = set()
        if not self._rendering.in_lines:  # there the start of a line tells who speaks
            marks = ordinary_marks(segments, special) | self._plain_added(segments)
        self._guard, self._calls.safe = Guard(marks), Guard(marks | special)
        self._prompt = self._rendering.pieces((_ASKED,), first=True)[0][-1]
        self._whole = not self._rendering.in_lines and self._texts_merge()
        if self._whole:
            self._guard = Guard(marks | special)
        self.cuts = Cuts(max_message_tokens)  # of conversations, not of what was tried until here

    def opening(self, messages: Conversation) -> list[int]:
        """Token ids of the messages before the agent's first turn, up to where that begins."""
        if tools := declared(messages):
            return self._encode(*self._calls.opening(self._all_safe(messages), tools))
        return self._encode(*self._pieces(messages, first=True)) or [self.end_of_turn]

    def reply(self, text: str, tools: Sequence[Tool] = ()) -> list[int]:
        """Token ids of an agent's message, end-of-turn token included: the action's ids.

        Args:
            text: the message.
            tools: functions that it may call; without them nothing in it is a call.
        """
        end = self._close or [self.end_of_turn]
        if tools and (called := self._calls.reply(text, self._guard, end)) is not None:
            return called
        ids = self._encode_reply(self._guard(self._rendering.said(text)))
        return [*ids, *end]

    def after(self, messages: Conversation, cut: bool = False, said: str = "") -> list[int]:
        """Token ids of what follows an agent's turn, up to where its next one begins.

        Args:
            messages: those of the user and of tools.
            cut: the turn ran out of tokens, so its closing token is written here, as observation.
            said: what the agent said in it, where it may call functions.
        """
        if said and (found := self._calls.after(said, self._all_safe(messages), cut)) is not None:
            return found
        ids = self._encode(*self._pieces(messages, first=False), after_turn=True)
        if not self._close:  # the template writes no end: it is ours
            return [self.end_of_turn, *ids] if cut else ids
        # What follows may begin with another mark, if it is that which ends a turn.
        written = 0 if cut or ids[: len(self._close)] != self._close else len(self._close)
        return ids[written:]

    def conversation(self, messages: Conversation) -> TokenizedConversation:
        """Token ids of a whole conversation, from its opening to the agent's last turn."""
        turns = [i for i, m in enumerate(messages) if m.role == "assistant"]
        tools = declared(messages)
        ids: list[int] = []
        mask: list[bool] = []
        start = 0
        for i in turns:
            between = messages[start:i]
            before = messages[start - 1].content if start and tools else ""
            observed = self.after(between, said=before) if start else self.opening(between)
            said = self.reply(messages[i].content, tools)
            ids += observed + said
            mask += [False] * len(observed) + [True] * len(said)
            start = i + 1
        return TokenizedConversation(ids, mask)

    def prompt(self, messages: Conversation) -> list[int]:
        """Token ids up to where the agent's next turn begins, in a conversation it may be part of.

        Where functions are declared, its earlier calls are calls; without them it is an opening.
        """
        last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
        if last < 0 or not declared(messages):
            return self.opening(messages)
        said, following = messages[: last + 1], messages[last + 1 :]
        return [*self.conversation(said).ids, *self.after(following, said=said[-1].content)]

    def text(self, ids: Sequence[int], tools: Sequence[Tool] = ()) -> str:
        """The text of an agent's token ids, without special tokens and outer white space.

        Args:
            ids: as they were sampled.
            tools: functions that it may call. Calls are in the form that environments read,
                whatever the model's own is.
        """
        if tools:
            whole = str(self.tokenizer.decode([i for i in ids if i not in self.stop_ids]))
            if (said := to_canonical(whole, tools)) != whole:
                return said
            if said := by_response_template(self.tokenizer, ids, tools):
                return said
        plain = [i for i in ids if i not in self._specials]
        return str(self.tokenizer.decode(plain)).strip()

    def _pieces(self, messages: Conversation, first: bool) -> tuple[tuple[str, ...], list[str]]:
        """The template's strings around messages, and texts that hold nobody else's marks."""
        return self._rendering.pieces(self._all_safe(messages), first)

    def _all_safe(self, messages: Conversation) -> Conversation:
        return tuple(Message(m.role, self._safe(m)) for m in messages)

    def _safe(self, message: Message) -> str:
        text = self._guard(message.content)
        if self._rendering.in_lines:
            return text.replace("\n", "\n  ")
        if message.role == "user":
            for label in self._rendering.labels:
                text = text.replace(label, f"({label[1:-1]})")
        return text

    def _encode(
        self, strings: Sequence[str], texts: Sequence[str], after_turn: bool = False
    ) -> list[int]:
        """Tokenize a template's strings and the texts between them, which are cut if too long."""
        if self._whole:
            return self._encode_whole(strings, [self._cut(t) for t in texts], after_turn)
        return self._encode_apart(strings, texts)

    def _encode_after(self, strings: Sequence[str], texts: Sequence[str]) -> list[int]:
        return self._encode(strings, texts, after_turn=True)

    def _encode_apart(self, strings: Sequence[str], texts: Sequence[str]) -> list[int]:
        ids = list(self._encode_template(strings[0]))
        for text, string in zip(texts, strings[1:], strict=True):
            ids += self.cuts.apply(self._encode_text(text))
            ids += self._encode_template(string)
        return ids

    def _encode_whole(
        self, strings: Sequence[str], texts: Sequence[str], after_turn: bool
    ) -> list[int]:
        """Tokenize strings and texts as one.

        Args:
            strings: the template's.
            texts: without any token's string.
            after_turn: whether a turn comes before, so that no text begins here.
        """
        whole = "".join(s + t for s, t in zip(strings, [*texts, ""], strict=True))
        if not after_turn:
            return self._tokenize(whole)
        before = str(self.tokenizer.convert_ids_to_tokens(self.end_of_turn))
        ids = self._tokenize(before + whole)
        return ids[1:] if ids[:1] == [self.end_of_turn] else self._tokenize(whole)

    def _encode_reply(self, text: str) -> list[int]:
        """Tokenize an agent's text, after the prompt if that makes a difference."""
        if self._whole:
            prompt = self._encode_template(self._prompt)
            ids = self._tokenize(self._prompt + text)
            if ids[: len(prompt)] == prompt:
                return ids[len(prompt) :]
        return self._encode_text(text)

    def _encode_text(self, text: str) -> list[int]:
        """Tokenize somebody's text: special tokens inside it stay plain characters."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [i for i in ids if i not in self._specials]

    def _encode_template(self, text: str) -> list[int]:
        if text not in self._encoded:
            self._encoded[text] = self._tokenize(text)
        return self._encoded[text]

    def _tokenize(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _cut(self, text: str) -> str:
        """The beginning of a text that is too long."""
        ids = self._encode_text(text)
        kept = self.cuts.apply(ids)
        return text if len(kept) == len(ids) else str(self.tokenizer.decode(kept))

    def _find_close(self) -> list[int]:
        """What the template writes right after an agent's text, up to what ends the turn.

        That is one of the known ids, or else the first mark. Empty if ordinary text comes first.
        """
        ids = self._encode_template(self._rendering.pieces((_ASKED,), first=False)[0][0])
        plain = [i not in self._added and not self._decoded(i).isspace() for i in ids]
        marks = [p for p, i in enumerate(ids) if i in self._added and not any(plain[:p])]
        known = [p for p in marks if ids[p] in self.stop_ids]
        end = (known or marks)[:1]
        return ids[: end[0] + 1] if end else []

    def _decoded(self, token: int) -> str:
        return str(self.tokenizer.decode([token]))

    def _plain_added(self, segments: Sequence[Sequence[str]]) -> set[str]:
        """Tokens of the template that count as text to the tokenizer, but are none."""
        written = [string for strings in segments for string in strings]
        source = "\n".join([str(self.tokenizer.get_chat_template()), *written])
        added = [t.content for t in self._added.values() if not t.special]
        return {content for content in added if content.strip() and content in source}

    def _texts_merge(self) -> bool:
        """Whether tokens of texts depend on what the template writes around them.

        So it is where a text's first word is one token with the space before it.
        """
        talks: list[tuple[Conversation, bool]] = [((_SYSTEM, _ASKED), True), ((_ASKED,), True)]
        talks += [((_ASKED,), False), ((_FOUND,), False), ((_ASKED, _FOUND), False)]
        pieces = [(self._pieces(messages, first), not first) for messages, first in talks]
        if any(self._encode_apart(*p) != self._encode_whole(*p, later) for p, later in pieces):
            return True
        text = self._rendering.said(_ASKED.content)
        prompt = self._encode_template(self._prompt)
        return self._tokenize(self._prompt + text) != prompt + self._encode_text(text)


def stop_ids_of(model: Any) -> tuple[int, ...]:
    """The ids that end a turn, as a model's generation settings have them."""
    ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if ids is None:
        return ()
    return (int(ids),) if isinstance(ids, int) else tuple(int(i) for i in ids)
