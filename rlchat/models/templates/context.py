"""The tokens of one conversation as its agent reads them, from turn to turn."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from rlchat.errors import UserError
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.templates.thoughts import thought_budget
from rlchat_envs import Conversation, Message, Tool, declared


class Context:
    """The tokens that an agent reads before its next one, and the turn that it is sampling.

    Tokens are only appended, with one exception: where the chat template leaves the thoughts of
    earlier turns out of a longer conversation, they are left out here too, and what stood behind
    them moves up. What was sampled besides stays as it was.

    Attributes:
        ids: all tokens, those of the turn in progress included.
        begin: how many of them come before that turn.
    """

    def __init__(self, template: ChatTemplate, max_new_tokens: int):
        """Begin with no tokens.

        Args:
            template: writes them.
            max_new_tokens: of a turn; if thoughts have a budget of their own, of what follows it.
        """
        self._template, self._most = template, max_new_tokens
        self._tools: tuple[Tool, ...] = ()  # functions that the agent may call
        self._budget = thought_budget(template.setting)
        self.ids: list[int] = []
        self._answered: list[int] = []  # the same without thoughts, up to the turn in progress
        self.begin = 0
        self._opened = 0  # tokens at the end of its prompt that begin a thought
        self._ended = False  # whether its thought was ended for it
        self._stays = False  # whether its thought will stay in the context

    @property
    def turn(self) -> list[int]:
        """The tokens of the turn in progress, sampled or written for the agent."""
        return self.ids[self.begin :]

    @property
    def said(self) -> list[int]:
        """The turn in progress as its text is read: with the mark that its prompt may end with."""
        return self.ids[self.begin - self._opened :]

    @property
    def longest_turn(self) -> int:
        """Most tokens that a turn may take, those included that are written for the agent."""
        if self._template.thoughts is None:
            return self._most
        return self._budget + self._most + len(self._template.end_of_thought(()))

    @property
    def first_tokens(self) -> int:
        """Most tokens that are sampled before `goes_on` decides on more."""
        return self._budget or self._most

    def check_room(self, tokens: int) -> None:
        """Refuse conversations without room for two turns with their thoughts.

        Raises:
            UserError: ``tokens`` are too few.
        """
        if self._template.thoughts is not None and tokens < 2 * self.longest_turn:
            raise UserError(
                f"expected --rollout.max-tokens of at least two turns with their thoughts "
                f"({2 * self.longest_turn}); got {tokens}; raise it, or give thoughts fewer tokens"
            )

    def open(self, messages: Conversation, room: int) -> None:
        """Begin with the messages before the agent's first turn; of too long ones the end counts.

        Args:
            messages: of whomever but the agent.
            room: tokens that are kept.
        """
        opening, self._tools = self._template.opening(messages), declared(messages)
        self._template.cuts.open(len(opening), room)
        cut = max(0, len(opening) - room)
        self.ids, self.begin = opening[cut:], len(opening) - cut
        self._opened = self._template.opened(self.ids)
        if self._template.thoughts is not None:
            self._answered = self._template.opening(messages, answered=True)[cut:]
            self._stays = self._template.keeps_thought(messages, first=True)

    def with_budget(self, max_new_tokens: int) -> Context:
        """The same context with another budget of the next turn."""
        other = copy.copy(self)
        other._most = max_new_tokens
        return other

    def go_on_from(self, ids: Sequence[int], tools: Sequence[Tool] = ()) -> None:
        """Begin with tokens that somebody else has written, up to where a turn begins."""
        self.ids, self.begin, self._tools = list(ids), len(ids), tuple(tools)
        self._opened = self._template.opened(self.ids)
        self._answered = list(ids)

    def add(self, ids: Sequence[int]) -> None:
        """Append tokens to the turn in progress."""
        self.ids.extend(ids)

    def another_turn(self) -> Context:
        """The same context with nothing sampled yet in the turn in progress."""
        other = copy.copy(self)
        other.ids, other._ended = self.ids[: self.begin], False
        return other

    def goes_on(self) -> tuple[list[int], int] | None:
        """Whether the turn in progress has more to come after what was sampled.

        It has if its thought is at the end of its budget, or ends with a token that ends turns too.

        Returns:
            What is written for the agent, which may be nothing, and how many tokens it may sample
            after that; None if the turn has ended.
        """
        template = self._template
        if template.thoughts is None or self._ended:
            return None
        turn = self.turn
        left = self._budget + self._most - len(turn)
        finished, thinks = turn[-1] in template.stop_ids, template.text_begin(self.said) is None
        end = template.end_of_thought(turn) if thinks else []
        early = thinks and finished and len(end) < len(template.end_of_thought(()))
        if (finished and not early) or (not self._budget and not early) or left <= 0:
            return None
        self._ended = True
        return end, self._most if self._budget else left

    def hear(self, messages: Conversation, cut: bool) -> int:
        """End the turn in progress, and append what follows it, up to where the next one begins.

        Args:
            messages: of whomever but the agent.
            cut: whether the turn ran out of tokens.

        Returns:
            How many of the tokens before are still there, in their places: all, unless thoughts
            were left out.
        """
        template, before = self._template, self.ids
        said = template.text(self.said, self._tools) if self._tools else ""
        following = template.after(messages, cut, said)
        same = len(before)
        if template.thoughts is None:
            self.ids = before + following
        else:
            answered = self._answered + self._said(cut)
            kept = template.thoughts.keeps([m.role for m in messages])
            self.ids = (before if kept else answered) + following
            self._answered = answered + template.after(messages, cut, said, answered=True)
            self._stays = template.keeps_thought(messages, first=False)
            same = _same(before, self.ids)
        self.begin, self._ended = len(self.ids), False
        self._opened = template.opened(self.ids)
        return same

    def _said(self, cut: bool) -> list[int]:
        """The turn in progress without its thought, if that is left out later."""
        if self._stays:
            return self.turn
        said = self.said
        begin = self._template.text_begin(said)
        if begin is None:  # it never came to its text
            return [] if cut else said[-1:]
        return said[begin:]


def turn_of(
    template: ChatTemplate, text: str, thought: str = "", tools: Sequence[Tool] = ()
) -> list[int]:
    """Token ids of an agent's turn, written from its text and its thought.

    Where the prompt begins a thought, an empty one is ended: else the text would be taken for it.
    """
    ids, marks, encoding = template.reply(text, tools), template.thoughts, template.encoding
    opened = template.opened(encoding.template(encoding.prompt)) > 0
    if marks is None or not (opened or thought):
        return ids
    written = encoding.tokenize(thought if opened else marks.begin + thought)
    return [*written, *template.end_of_thought(()), *ids]


def prompts_of(
    template: ChatTemplate,
    conversation: Conversation,
    turns: Sequence[Sequence[int]],
    max_new_tokens: int,
    max_tokens: int,
    following: bool = False,
) -> list[list[int]]:
    """What an agent reads before each of its turns in a conversation, as a rollout writes it.

    Args:
        template: writes it.
        conversation: all messages.
        turns: token ids of each of the agent's messages, thoughts included.
        max_new_tokens: of a turn.
        max_tokens: of the conversation; of a longer opening the end counts.
        following: also give what would be read before the turn after the last message.
    """
    context = Context(template, max_new_tokens)
    between: list[Message] = []
    found: list[list[int]] = []

    def come_to(number: int) -> None:
        if number:
            context.hear(tuple(between), cut=turns[number - 1][-1] not in template.stop_ids)
        else:
            context.open(tuple(between), max_tokens - context.longest_turn)
        found.append(list(context.ids))
        between.clear()

    for message in conversation:
        if message.role != "assistant":
            between.append(message)
            continue
        come_to(len(found))
        context.add(turns[len(found) - 1])
    if following:
        come_to(len(found))
    return found


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two contexts begin with alike."""
    shortest = min(len(one), len(other))
    return next((i for i in range(shortest) if one[i] != other[i]), shortest)
