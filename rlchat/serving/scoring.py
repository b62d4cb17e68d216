"""Scores of a live conversation, in which a person, the simulated user or both are the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlchat_envs import Case, Conversation, Message, Scorer
from rlchat_envs.knowledge import Lookup


@dataclass
class ScoredConversation:
    """One conversation, with the score of each of the agent's turns in named parts.

    The parts are those of the environment's steps. A turn's progress is known once the user has
    replied to it; a solution is judged at once. After the verdict people may talk on, but
    nothing is scored any more.
    """

    case: Case | None  # None: no environment, only talk
    scorer: Scorer
    lookups: Sequence[Lookup] = ()
    gamma: float = 1.0  # the environment's discount of progress per turn
    conversation: Conversation = ()
    parts: list[dict[str, float]] = field(default_factory=list)
    solved: bool | None = None  # None while the case is open
    _potential: float = 0.0  # before the agent's last message
    _open_reply: str | None = None  # the agent's last message, if it counts and nobody has replied

    def __post_init__(self) -> None:
        """Begin with the agent's instructions, which come before all messages."""
        for lookup in self.lookups:
            lookup.begin(self.case)
        if self.case is not None:
            self.conversation = tuple(m for m in self.case.opening if m.role == "system")

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
        if self.case is not None and self._open_reply is not None:
            self.case.overhear(self._open_reply)
        self._open_reply = None
        messages = (Message("user", text),) if self.case is None else self.case.tell(text)
        messages = self._append(messages)
        if self.case is not None and self.solved is None and self.parts:
            self.parts[-1]["progress"] = self.gamma * self.case.potential - self._potential
        return messages

    def simulated(self) -> Conversation:
        """Append the simulated user's opening, or their reply to the agent's last message."""
        assert self.case is not None and self.solved is None
        messages: Conversation
        if not self.parts:
            messages = tuple(m for m in self.case.opening if m.role != "system")
        else:
            assert self.conversation[-1].role == "assistant"
            self._open_reply = None
            reaction = self.case.hear(self.conversation[-1].content)
            messages = reaction.messages
            self._settle(reaction.resolution, reaction.terminated)
        return self._append(messages)

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
        self._open_reply = text
        parts = {} if self.case is None else {"progress": 0.0, "resolution": 0.0}
        parts |= self.scorer.score(before, text)
        if cut_off:
            parts["cut_off"] = min(parts.get("cut_off", 0.0), -cut_off)
        self.parts.append(parts)
        self._potential = 0.0 if self.case is None else self.case.potential

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
            self.solved = None  # if it was decided, then by the message that goes
        self.agent(text, cut_off)

    def verdict(self) -> float:
        """The resolution that the agent's last message earns; 0 if it decides nothing."""
        if self.case is None or self.solved is not None:
            return 0.0
        return self.case.judge(self.conversation[-1].content)

    def decide(self) -> bool:
        """Apply the verdict on the agent's last message; tell whether there was one."""
        verdict = self.verdict()
        if verdict:
            self._settle(verdict, terminated=True)
            self.solved = verdict > 0
        return bool(verdict)

    def to_json(self) -> dict[str, Any]:
        """The conversation as a line of a transcript; `rlchat sft --data` reads it too."""
        return {
            "messages": [{"role": m.role, "content": m.content} for m in self.conversation],
            "parts": [dict(parts) for parts in self.parts],
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

    def _settle(self, resolution: float, terminated: bool) -> None:
        """Write down what the last turn led to, as `DialogueEnv.step` does."""
        assert self.case is not None
        after = 0.0 if terminated else self.case.potential
        progress = self.gamma * after - self._potential
        self.parts[-1] |= {"progress": progress, "resolution": resolution}
        if terminated:
            self.solved = self.case.success
