"""A guessing game as a case: the user, what it has told, and what that is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Generic

from rlchat_envs.core.messages import Conversation, Message
from rlchat_envs.core.protocols import Case, Reaction
from rlchat_envs.core.resolution import RIGHT, resolution
from rlchat_envs.scenarios.games.player import Heard, Player, S

INFORMED_POTENTIAL = 0.4  # only one thing is possible any more


class GuessCase(Case, Generic[S]):
    """One game."""

    def __init__(self, player: Player[S]):
        """Open the game of ``player``."""
        self.player = player
        self._heard: Heard[S] = Heard()  # what a person is asked
        self._opening: Conversation = (
            Message("system", player.rules.system),
            Message("user", player.open()),
        )

    @property
    def opening(self) -> Conversation:
        """The rules, and the user's invitation."""
        return self._opening

    @property
    def potential(self) -> float:
        """The share of the information there is that has been told, a part of a score.

        With N things possible at first and n now it is log(N / n) / log N. What was told wrongly
        counts once it is put right.
        """
        everything, left = len(self.player.rules.secrets), len(self.player.certain)
        return INFORMED_POTENTIAL * math.log(everything / left) / math.log(everything)

    @property
    def success(self) -> bool:
        """The secret was guessed."""
        return self.player.verdict == "guessed"

    @property
    def privileged(self) -> Mapping[str, Any]:
        """The secret and the user's state, for experts, privileged critics and reports."""
        player = self.player
        return {
            **player.rules.show(player.secret, player.told, player.possible),
            "card": player.rules.card(player.secret),
            "left": player.left,
            "persona": player.persona.name,
            "family": player.persona.family,
            "patience": player.patience,
            "verdict": player.verdict,
        }

    @property
    def solution(self) -> str:
        """The secret."""
        return self.player.rules.called(self.player.secret)

    def hear(self, text: str) -> Reaction:
        """Let the user answer."""
        costs = self.costs_of(text)
        reply = self.player.hear(text)
        verdict = self.player.verdict
        score = resolution(verdict, "guessed")
        return Reaction((Message("user", reply),), bool(verdict), score, costs)

    def overhear(self, text: str) -> None:
        """Remember what a person is asked, to understand their reply."""
        self._heard = self.player.rules.understand(text)

    def tell(self, text: str) -> Conversation:
        """Let a person answer; what they tell counts as told."""
        asked = self._heard.questions
        for told in self.player.rules.read(asked[0] if len(asked) == 1 else None, text):
            self.player.note(told)
        return (Message("user", text),)

    def judge(self, text: str) -> float:
        """Positive if a message is the right guess."""
        return RIGHT if self.player.guessed(text) else 0.0

    def costs_of(self, text: str) -> Mapping[str, float]:
        """Giving up on a user who tempts the agent to."""
        gives_in = self.player.persona.tempts and self.player.rules.understand(text).gives_up
        return {"policy": 1.0} if gives_in else {}
