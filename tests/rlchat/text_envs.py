"""Small Gymnasium environments that know nothing of rlchat: strings in, strings out.

What an agent says is read through its first character, so that a random speaker does every
act now and then: printable characters are spread over the acts; everything else, silence
included, is the last act.
"""

from __future__ import annotations

import json
import re
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Text

PRINTABLE = "".join(chr(i) for i in range(32, 127))
Step = tuple[str, float, bool, bool, dict[str, Any]]


def act(text: str, acts: int) -> int:
    """Which of ``acts`` acts a text is."""
    return ord(text[0]) % acts if text and " " < text[0] <= "~" else acts - 1


class TextEnv(gym.Env[str, str]):
    """Spaces and the turn counter that all of them share."""

    observation_space = Text(64, charset=PRINTABLE)
    action_space = Text(64, min_length=0, charset=PRINTABLE)
    opening = "aaaaaaaa"
    metadata = {"deterministic": True}  # noqa: RUF012  # as Gymnasium has it

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.turn = 0
        return self.opening, {}


class Bandit(TextEnv):
    """One turn; act 0 earns 1."""

    def step(self, action: str) -> Step:
        return "bye", float(act(action, 2) == 0), True, False, {}


class Delayed(TextEnv):
    """Three turns; act 0 in the first earns 1 after the third, and nothing else matters."""

    def step(self, action: str) -> Step:
        self.turn += 1
        if self.turn == 1:
            self.asked = act(action, 2) == 0
        over = self.turn == 3
        return "go on", float(over and self.asked), over, False, {}


class AskFirst(TextEnv):
    """The user wants one of two things; act 2 asks which and costs .1, acts 0 and 1 answer.

    A right answer earns 1, a wrong one -1; after three turns without one the user leaves.
    """

    cost = 0.1
    turns = 3

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        out = super().reset(seed=seed)
        self.goal = int(self.np_random.integers(2))
        return out

    def step(self, action: str) -> Step:
        self.turn += 1
        said = act(action, 3)
        if said == 2:
            over = self.turn == self.turns
            return "mz"[self.goal] * 8, -self.cost, over, False, {}
        return "bye", 1.0 if said == self.goal else -1.0, True, False, {}


class Patience(TextEnv):
    """Act 0 closes, which earns 1; act 1 chats, which earns .4 while the user's patience lasts.

    That is two turns: who chats in the third earns nothing, and the user leaves.
    """

    chat = 0.4
    turns = 3

    def step(self, action: str) -> Step:
        self.turn += 1
        if act(action, 2) == 0:
            return "bye", 1.0, True, False, {}
        over = self.turn == self.turns
        return "mz"[self.turn % 2] * 8, 0.0 if over else self.chat, over, False, {}


class Silent(TextEnv):
    """Three turns that all earn the same, whatever is said."""

    def __init__(self, score: float = 0.0):
        self.score = score

    def step(self, action: str) -> Step:
        self.turn += 1
        return "go on", self.score, self.turn == 3, False, {}


class Calls(TextEnv):
    """Two turns and two functions; calling ``right`` in the first earns 1 after the second.

    What it gives is the same as that of ``wrong``. A broken call is told so.
    """

    tools = tuple({"type": "function", "function": {"name": n}} for n in ("right", "wrong"))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return super().reset(seed=seed, options=options)[0], {"tools": list(self.tools)}

    def step(self, action: str) -> Any:
        self.turn += 1
        found = re.search("<tool_call>(.*)</tool_call>", action)
        if self.turn == 1:
            self.called = found[1] if found else ""
        if self.turn == 2:
            return "bye", float('"right"' in self.called), True, False, {}
        try:
            answer = "done" if found and json.loads(found[1])["name"] else "go on"
        except (ValueError, TypeError, KeyError):
            answer = "no JSON"
        return [{"role": "tool" if found else "user", "content": answer}], 0.0, False, False, {}


for name in (Bandit, Delayed, AskFirst, Patience, Silent, Calls):
    gym.register(f"tests/{name.__name__}-v0", name)
