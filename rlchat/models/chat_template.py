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
from rlchat.models.templates.encoding import Encoding
from rlchat.models.templates.forging import Guard, ordinary_marks
from rlchat.models.templates.taken_apart import taken_apart
from rlchat.models.templates.thoughts import OFF
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

    Agents do not think, unless `thinking` gives the template by which they do.

    An opening is what the template writes, token for token, and so is what follows a turn. Only
    what it would take back later stays: the empty thought that says that there is none. Without a
    template there are plain ``User:`` / ``Assistant:`` lines. A role that it does not know is a
    user's message with the role's name before it, a system message begins the first user's.

    Nobody can write another's marks: special tokens in a text are plain characters, other marks
    are rewritten (``[desk]`` is ``(desk)``), and in plain lines the later lines of a text are
    indented.

    Functions that a conversation declares with its first message are declared as the template
    does it, and calls and results are written so; where it has no way, declarations stand in the
    system message, and calls are texts.

    Attributes:
        end_of_turn: the id that is written at the end of an agent's turn.
        stop_ids: all ids that end a turn if they are sampled.
        encoding: makes ids of the template's strings and of texts.
        setting: whether agents think: ``off``, ``on``, or how many tokens a thought may have.
        thoughts: how they mark their thoughts; None if they do not think.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_message_tokens: int = MAX_MESSAGE_TOKENS,
        stop_ids: Collection[int] = (),
        setting: str = OFF,
    ):
        """Take the template apart.

        Args:
            tokenizer: any tokenizer with an end-of-sequence token.
            max_message_tokens: longer messages that are not the agent's own are cut here.
            stop_ids: ids that end a turn, as the model's maker says; see `stop_ids_of`.
            setting: whether agents think; see `thinking`.

        Raises:
            UserError: no end token, a template that cannot be appended to, or one without thoughts.
        """
        if tokenizer.eos_token_id is None:
            raise UserError(
                "expected a tokenizer with an end-of-sequence token; this one has none; "
                "choose an instruction-tuned model"
            )
        self.tokenizer, self.cuts, self.setting = tokenizer, Cuts(max_message_tokens), setting
        self._given_stop_ids = stop_ids
        self._others: dict[str, ChatTemplate] = {setting: self}
        self._rendering, segments = taken_apart(tokenizer, setting != OFF)
        self.thoughts = self._rendering.thoughts
        self.encoding = encoding = Encoding(tokenizer, self.cuts)
        self._added = tokenizer.added_tokens_decoder
        eos = int(tokenizer.eos_token_id)
        self.stop_ids = frozenset({eos, *(i for i in stop_ids if i in self._added)})
        self._close = self._find_close()
        self.end_of_turn = self._close[-1] if self._close else eos
        self.stop_ids |= {self.end_of_turn}
        encoders = Encoders(encoding.tokenize, encoding.reply, encoding.after)
        self._calls = CallTokens(self._rendering, encoders, self.stop_ids, self._added)
        self.stop_ids = self._calls.stop_ids
        segments += self._calls.segments()
        encoding.end_of_turn = self.end_of_turn
        encoding.specials = frozenset(tokenizer.all_special_ids) | self.stop_ids
        special = {token.content for token in self._added.values() if token.special}
        marks: set[str] = set()
        if not self._rendering.in_lines:  # there the start of a line tells who speaks
            if self.thoughts is not None:
                segments.append(("", self.thoughts.begin, self.thoughts.end))
            marks = ordinary_marks(segments, special) | self._plain_added(segments)
        self._guard, self._calls.safe = Guard(marks), Guard(marks | special)
        encoding.prompt = self._rendering.pieces((_ASKED,), first=True)[0][-1]
        encoding.whole = not self._rendering.in_lines and self._texts_merge()
        if encoding.whole:
            self._guard = Guard(marks | special)
        # Of conversations, not of what was tried until here.
        self.cuts = encoding.cuts = Cuts(max_message_tokens)

    def thinking(self, setting: str) -> ChatTemplate:
        """The same template for agents that think, or do not.

        Args:
            setting: ``off``; ``on``; a number of tokens, after which a thought is ended; or
                nothing, which leaves it as it is.

        Raises:
            UserError: the template knows no thoughts.
        """
        if setting in ("", self.setting):
            return self
        if setting not in self._others:
            most, stop_ids = self.cuts.most, self._given_stop_ids
            self._others[setting] = other = ChatTemplate(self.tokenizer, most, stop_ids, setting)
            other.cuts = other.encoding.cuts = self.cuts
            other._others = self._others
        return self._others[setting]

    def opening(self, messages: Conversation, answered: bool = False) -> list[int]:
        """Token ids of the messages before the agent's first turn, up to where that begins.

        Args:
            messages: of whomever but the agent.
            answered: the turn lies behind, and no thought stands there any more.
        """
        if tools := declared(messages):
            opening = self._calls.opening(self._all_safe(messages), tools, answered)
            return self.encoding.pieces(*opening)
        pieces = self._pieces(messages, first=True, answered=answered)
        return self.encoding.pieces(*pieces) or [self.end_of_turn]

    def reply(self, text: str, tools: Sequence[Tool] = ()) -> list[int]:
        """Token ids of an agent's message, end-of-turn token included: the action's ids.

        Args:
            text: the message.
            tools: functions that it may call; without them nothing in it is a call.
        """
        end = self._close or [self.end_of_turn]
        if tools and (called := self._calls.reply(text, self._guard, end)) is not None:
            return called
        ids = self.encoding.reply(self._guard(self._rendering.said(text)))
        return [*ids, *end]

    def after(
        self, messages: Conversation, cut: bool = False, said: str = "", answered: bool = False
    ) -> list[int]:
        """Token ids of what follows an agent's turn, up to where its next one begins.

        Args:
            messages: those of the user and of tools.
            cut: the turn ran out of tokens, so its closing token is written here, as observation.
            said: what the agent said in it, where it may call functions.
            answered: the next turn lies behind as well, and no thought stands there any more.
        """
        if said:
            found = self._calls.after(said, self._all_safe(messages), cut, answered)
            if found is not None:
                return found
        pieces = self._pieces(messages, first=False, answered=answered)
        ids = self.encoding.pieces(*pieces, after_turn=True)
        if not self._close:  # the template writes no end: it is ours
            return [self.end_of_turn, *ids] if cut else ids
        # What follows may begin with another mark, if it is that which ends a turn.
        written = 0 if cut or ids[: len(self._close)] != self._close else len(self._close)
        return ids[written:]

    def conversation(self, messages: Conversation) -> TokenizedConversation:
        """Token ids of a whole conversation, from its opening to the agent's last turn.

        It is written as one of an agent that does not think: nobody knows what it would have
        thought.
        """
        if self.thoughts is not None:
            return self.thinking(OFF).conversation(messages)
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
        """The text of an agent's token ids, without special tokens, thoughts and outer white space.

        It is empty while a thought has not ended.

        Args:
            ids: as they were sampled.
            tools: functions that it may call. Calls are in the form that environments read,
                whatever the model's own is.
        """
        begin = self.text_begin(ids)
        ids = ids[begin:] if begin is not None else []
        if tools:
            whole = str(self.tokenizer.decode([i for i in ids if i not in self.stop_ids]))
            if (said := to_canonical(whole, tools)) != whole:
                return said
            if said := by_response_template(self.tokenizer, ids, tools):
                return said
        plain = [i for i in ids if i not in self.encoding.specials]
        return str(self.tokenizer.decode(plain)).strip()

    def keeps_thought(self, messages: Conversation, first: bool) -> bool:
        """Whether the thought of the turn that comes after these messages stays for good."""
        return self._rendering.keeps_thought(messages, first)

    def thought(self, ids: Sequence[int]) -> str:
        """The thought in an agent's token ids, without its marks; empty if there is none."""
        if self.thoughts is None:
            return ""
        begin = self.text_begin(ids)
        whole = self.tokenizer.decode(list(ids[:begin]))
        return self.thoughts.without_marks(str(whole))

    def text_begin(self, ids: Sequence[int]) -> int | None:
        """Where the text of an agent's token ids begins; None while its thought has not ended."""
        if self.thoughts is None:
            return 0
        return self.thoughts.text_begin([self.encoding.string(i) for i in ids])

    def opened(self, prompt: Sequence[int]) -> int:
        """How many tokens at the end of a prompt begin a thought."""
        if self.thoughts is None:
            return 0
        mark, tail = "".join(self.thoughts.begin.split()), ""
        for count, token in enumerate(reversed(prompt), 1):
            tail = "".join(self.encoding.string(token).split()) + tail
            if len(tail) >= len(mark):
                return count if tail == mark else 0
        return 0

    def end_of_thought(self, ids: Sequence[int]) -> list[int]:
        """Token ids that end a thought after these ids of a turn.

        Of those the first may be there already, where it ends the turn as well.
        """
        assert self.thoughts is not None
        end = self.encoding.template(self.thoughts.end)
        return end[1:] if ids and ids[-1] in self.stop_ids and ids[-1] == end[0] else list(end)

    def _pieces(
        self, messages: Conversation, first: bool, answered: bool = False
    ) -> tuple[tuple[str, ...], list[str]]:
        """The template's strings around messages, and texts that hold nobody else's marks."""
        return self._rendering.pieces(self._all_safe(messages), first, answered)

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

    def _find_close(self) -> list[int]:
        """What the template writes right after an agent's text, up to what ends the turn.

        That is one of the known ids, or else the first mark. Empty if ordinary text comes first.
        """
        ids = self.encoding.template(self._rendering.pieces((_ASKED,), first=False)[0][0])
        plain = [i not in self._added and not self.encoding.string(i).isspace() for i in ids]
        marks = [p for p, i in enumerate(ids) if i in self._added and not any(plain[:p])]
        known = [p for p in marks if ids[p] in self.stop_ids]
        end = (known or marks)[:1]
        return ids[: end[0] + 1] if end else []

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
        encoding, text = self.encoding, self._rendering.said(_ASKED.content)
        if any(encoding.apart(*p) != encoding.together(*p, later) for p, later in pieces):
            return True
        apart = encoding.template(encoding.prompt) + encoding.text(text)
        return encoding.tokenize(encoding.prompt + text) != apart


def stop_ids_of(model: Any) -> tuple[int, ...]:
    """The ids that end a turn, as a model's generation settings have them."""
    ids = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if ids is None:
        return ()
    return (int(ids),) if isinstance(ids, int) else tuple(int(i) for i in ids)
