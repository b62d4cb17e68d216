"""Scores of a live conversation, in which a person, the simulated user or both are the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlchat_envs import Case, Conversation, DialogueEnv, Message
from rlchat_envs.core.env import Turn
from rlchat_envs.core.messages import to_row
from rlchat_envs.knowledge import Lookup
from rlchat_reward_models import RuleScorer
from rlchat_reward_models.stated_style import Style, style_parts


@dataclass
class ScoredConversation:
    """One conversation, with the score and the costs of each of the agent's turns.

    They are those of the environment, which a person is a user of like any other; without one,
    only how things are said is scored. A turn's progress is known once the user has replied to
    it; a solution is judged at once. After the verdict people may talk on, but nothing is scored
    any more.
    """

    env: DialogueEnv | None  # reset for this conversation; None: only talk
    lookups: Sequence[Lookup] = ()
    conversation: Conversation = ()  # how it opens; the environment's own opening if empty
    style: Style = ()  # that its system message states
    parts: list[dict[str, float]] = field(default_factory=list)
    costs: list[dict[str, float]] = field(default_factory=list)
    solved: bool | None = None  # None while the case is open
    _open_reply: str | None = None  # the agent's last message, if it counts and nobody has replied
    _cut_off: float = 0.0  # its penalty, if it ran out of tokens
    _styled: Mapping[str, float] = field(default_factory=dict)  # its parts for the style

    def __post_init__(self) -> None:
        """Begin with the agent's instructions, which come before all messages."""
        for lookup in self.lookups:
            lookup.begin(self.case)
        opening = self.conversation or (() if self.case is None else self.case.opening)
        self.conversation = tuple(m for m in opening if m.role == "system")

    @property
    def case(self) -> Case | None:
        """The episode's state; None where there is no environment."""
        return None if self.env is None else self.env.case

    @property
    def privileged(self) -> Mapping[str, Any]:
        """Privileged information, hidden from models; scripted agents may read it."""
        return {} if self.case is None else self.case.privileged

    @property
    def unanswered(self) -> bool:
        """Whether a message of the user's waits for a reply: the agent had no room left for one."""
        return self.conversation[-1:] != () and self.conversation[-1].role in ("user", "tool")

    @property
    def score(self) -> float:
        """Sum of all parts of all turns."""
        return sum(sum(p.values()) for p in self.parts)

    def person(self, text: str) -> Conversation:
        """Append a person's message; give it, and what is looked up about it."""
        served = self.serve()
        reply, self._open_reply = self._open_reply, None
        if self.env is None:
            return self._append((Message("user", text),))
        if reply is None or self.solved is not None:
            return served + self._append(self.env.tell(text))
        turn = self.env.answer(reply, said=text)
        self._settle(turn)
        return self._append(turn.messages)

    def simulated(self) -> Conversation:
        """Append the simulated user's opening, or their reply to the agent's last message."""
        assert self.env is not None and self.solved is None
        if not self.parts:
            return self._append(tuple(m for m in self.env.case.opening if m.role != "system"))
        reply, self._open_reply = self._open_reply, None
        assert reply is not None
        turn = self.env.answer(reply)
        self._settle(turn)
        if turn.terminated:
            self.solved = self.env.case.success
        return self._append(turn.messages)

    def serve(self, person: bool = True) -> Conversation:
        """Append what the functions give that the agent's last message calls, if it calls any.

        Args:
            person: whether a person is the user, whose patience is their own.
        """
        reply = self._open_reply
        if self.env is None or reply is None or self.solved is not None:
            return ()
        if not self.env.calls(reply):
            return ()
        self._open_reply = None
        turn = self.env.answer(reply, said="" if person else None)
        self._settle(turn)
        if turn.terminated:
            self.solved = self.env.case.success
        return self._append(turn.messages)

    def agent(self, text: str, cut_off: float = 0.0) -> None:
        """Append a message of the agent's, and score it.

        Args:
            text: its message.
            cut_off: penalty for a turn that ran out of tokens.
        """
        before = self.conversation
        self.conversation += (Message("assistant", text),)
        if self.solved is not None:
            return
        self._open_reply, self._cut_off = text, cut_off
        self._styled = style_parts(self.style, before, text)
        self.parts.append({})
        self.costs.append({})
        if self.env is None:
            self._settle(Turn((), RuleScorer().score(before, text), {}, False))
        else:
            self._settle(self.env.preview(text))

    def instead(self, text: str, cut_off: float = 0.0) -> None:
        """Put another message in the place of the agent's last one, to which nobody has replied.

        Args:
            text: the message.
            cut_off: as in `agent`.
        """
        assert self.conversation[-1].role == "assistant"
        self.conversation = self.conversation[:-1]
        if self._open_reply is not None:
            self.parts.pop()
            self.costs.pop()
            self.solved = None  # if it was decided, then by the message that goes
        self.agent(text, cut_off)

    def verdict(self) -> float:
        """The resolution that the agent's last message earns; 0 if it decides nothing."""
        turn = self._verdict()
        return 0.0 if turn is None else turn.parts["resolution"]

    def decide(self) -> bool:
        """Apply the verdict on the agent's last message; tell whether there was one."""
        if (turn := self._verdict()) is None:
            return False
        self._settle(turn)
        self.solved = turn.parts["resolution"] > 0
        return True

    def to_json(self) -> dict[str, Any]:
        """The conversation as a line of a transcript; `rlchat sft --data` reads it too."""
        return {
            **to_row(self.conversation),
            "parts": [dict(parts) for parts in self.parts],
            "costs": [dict(costs) for costs in self.costs],
            "score": self.score,
            "success": self.solved,
        }

    def _append(self, messages: Conversation) -> Conversation:
        """Append messages, and what is looked up about them while the case is open."""
        self.conversation += messages
        for lookup in self.lookups if self.solved is None else ():
            found = lookup.find(self.conversation)
            self.conversation += found
            messages += found
        return messages

    def _verdict(self) -> Turn | None:
        if self.env is None or self.solved is not None or self.conversation[-1].role != "assistant":
            return None
        return self.env.verdict(self.conversation[-1].content)

    def _settle(self, turn: Turn) -> None:
        """Write down what is known of the agent's last turn."""
        self.parts[-1], self.costs[-1] = {**turn.parts, **self._styled}, dict(turn.costs)
        if self._cut_off:
            fault = min(turn.parts.get("cut_off", 0.0), -self._cut_off)
            self.parts[-1]["cut_off"] = fault
