"""A conversation in which the user's seat is taken by a person, the simulated user, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlchat_envs import Case, Conversation, Message, Scorer
from rlchat_envs.knowledge import Lookup


@dataclass
class ChatSession:
    """One conversation, and what each of the agent's turns in it is worth.

    The parts are those of the environment's steps. A turn's progress is known once the user has
    replied to it; a solution is judged at once. After the verdict people may talk on, but
    nothing is scored any more.
    """

    case: Case | None  # None: no environment, only talk
    scorer: Scorer
    lookups: Sequence[Lookup] = ()
    conversation: Conversation = ()
    parts: list[dict[str, float]] = field(default_factory=list)
    solved: bool | None = None  # None while the case is open
    _potential: float = 0.0  # before the agent's last message
    _unheard: str | None = None  # the agent's last message, if it counts and nobody has replied

    def __post_init__(self) -> None:
        """The agent has its instructions before anybody speaks."""
        for lookup in self.lookups:
            lookup.begin(self.case)
        if self.case is not None:
            self.conversation = tuple(m for m in self.case.opening if m.role == "system")

    @property
    def hidden(self) -> Mapping[str, Any]:
        """What scripted agents may look at."""
        return {} if self.case is None else self.case.hidden

    @property
    def unanswered(self) -> bool:
        """Whether the agent, which speaks after everybody else, had no room left to."""
        return self.conversation[-1:] != () and self.conversation[-1].role in ("user", "tool")

    @property
    def score(self) -> float:
        """Sum of all parts of all turns."""
        return sum(sum(p.values()) for p in self.parts)

    def person(self, text: str) -> Conversation:
        """A person speaks; give their message and what the desk finds in it."""
        if self.case is not None and self._unheard is not None:
            self.case.overhear(self._unheard)
        self._unheard = None
        said = (Message("user", text),) if self.case is None else self.case.tell(text)
        said = self._said(said)
        if self.case is not None and self.solved is None and self.parts:
            self.parts[-1]["progress"] = self.case.potential - self._potential
        return said

    def simulated(self) -> Conversation:
        """The simulated user speaks: opens the case, or replies to the agent's last message."""
        assert self.case is not None and self.solved is None
        said: Conversation
        if not self.parts:
            said = tuple(m for m in self.case.opening if m.role != "system")
        else:
            assert self.conversation[-1].role == "assistant"
            self._unheard = None
            reaction = self.case.hear(self.conversation[-1].content)
            said = reaction.messages
            self._settle(reaction.resolution, reaction.terminated)
        return self._said(said)

    def agent(self, text: str, cut_off: float = 0.0) -> None:
        """The agent speaks.

        Args:
            text: its message.
            cut_off: penalty for a turn that ran out of tokens.
        """
        before = self.conversation
        self.conversation += (Message("assistant", text),)
        if self.solved is not None:
            return
        self._unheard = text
        parts = {} if self.case is None else {"progress": 0.0, "resolution": 0.0}
        parts |= self.scorer.score(before, text)
        if cut_off:
            parts["cut_off"] = min(parts.get("cut_off", 0.0), -cut_off)
        self.parts.append(parts)
        self._potential = 0.0 if self.case is None else self.case.potential

    def instead(self, text: str, cut_off: float = 0.0) -> None:
        """Another message takes the place of the agent's last one, to which nobody has replied.

        Args:
            text: the message.
            cut_off: as in `agent`.
        """
        assert self.conversation[-1].role == "assistant"
        self.conversation = self.conversation[:-1]
        if self._unheard is not None:
            self.parts.pop()
            self.solved = None  # if it was decided, then by the message that goes
        self.agent(text, cut_off)

    def verdict(self) -> float:
        """What the agent's last message is worth as a solution; 0 if it decides nothing."""
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
        """A line of a transcript; `rlchat sft --data` reads it too."""
        return {
            "messages": [{"role": m.role, "content": m.content} for m in self.conversation],
            "parts": [dict(parts) for parts in self.parts],
            "score": self.score,
            "success": self.solved,
        }

    def _said(self, said: Conversation) -> Conversation:
        """Append what was said, and what the desk looks up about it while the case is open."""
        self.conversation += said
        for lookup in self.lookups if self.solved is None else ():
            found = lookup.find(self.conversation)
            self.conversation += found
            said += found
        return said

    def _settle(self, resolution: float, terminated: bool) -> None:
        """Write down what the last turn led to, as `DialogueEnv.step` does."""
        assert self.case is not None
        after = 0.0 if terminated else self.case.potential
        self.parts[-1] |= {"progress": after - self._potential, "resolution": resolution}
        if terminated:
            self.solved = self.case.success
