"""Play: a person speaks for the agent, against ours and against somebody else's environment."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import pytest
from rich.console import Console
from rich.text import Text

from rlchat.cli.options import PlayOptions
from rlchat.cli.play import called, run_play
from rlchat.cli.terminal import piped_lines
from rlchat.errors import UserError
from rlchat_envs import Tool, read_message

OPENING = (
    "system  Oak & Ember support desk. Ask, read record and policy, then offer the right solution. "
    "Be kind and brief.\n"
    "  user  Guarantee claim: my rice cooker quit.\n"
)
AFTERWARDS = (
    'Right: discount voucher, as the status is "warranty expired".\n'
    "The expert, on the same goal: solved, score +1.00, 2 turns.\n"
)


def play(lines: Iterable[str], options: PlayOptions | None = None) -> str:
    file = io.StringIO()
    console = Console(file=file, width=100, color_system=None)
    run_play(options or PlayOptions(), console, piped_lines(lines, console))
    return file.getvalue()


def test_a_case_solved_by_a_person() -> None:
    ask = "Sorry! Could you please tell me your order number and the fault?"
    offer = "Thank you. I can give you a discount voucher."
    assert play(["", ask, offer, "never read"]) == OPENING + (
        f"   you  \n   you  {ask}\n"
        "  user  Y9297. Brown rust spots cover the rim.\n"
        "  desk  Order Y9297: rice cooker, Alistair Delacroix. Status: warranty expired.\n"
        "  desk  Policy on warranty claims: warranty valid: send a replacement; warranty expired: "
        "discount voucher.\n"
        "score +0.40: progress +0.40\n"
        f"   you  {offer}\n"
        "  user  My mood isn't improving, I'll tell you that much. Lovely, I accept. You've been "
        "very helpful, cheerio!\n"
        "score +0.60: progress -0.40, resolution +1.00\n"
        f"Solved, score +1.00, 2 turns.\n{AFTERWARDS}"
    )


def test_a_case_lost_by_a_person() -> None:
    shown = play(["hm"] * 9)
    assert shown.startswith(
        f"{OPENING}   you  hm\n"
        "  user  Right, I'm waiting. What's your plan?\n"
        "score -0.30: courtesy -0.10, cut_off -0.20\n"
    )
    assert shown.endswith(
        "score -0.80: resolution -0.50, courtesy -0.10, cut_off -0.20\n"
        f"Not solved, score -1.70, 4 turns.\n{AFTERWARDS}"
    )


class Echo(gym.Env[str, str]):
    """Says everything back; over at the second turn."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Text(100)
        self.action_space = gym.spaces.Text(100, charset="abc ")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.turns = 0
        return "say \x1b[2Ja", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turns += 1
        return action, 0.5, self.turns == 2, False, {}


gym.register("test/Echo-v0", entry_point=Echo)


def test_an_environment_of_somebody_elses() -> None:
    shown = play(["abc", "bxa", "never read"], PlayOptions(env="test/Echo-v0"))
    assert shown == (
        "  user  say \N{REPLACEMENT CHARACTER}[2Ja\n"
        "   you  abc\n"
        "  user  abc\n"
        "score +0.50: reward +0.50\n"
        "   you  bxa\n"
        "Left out, as the environment cannot read them: 1 letters.\n"
        "  user  ba\n"
        "score +0.50: reward +0.50\n"
        "Over, score +1.00, 2 turns.\n"
    )


@pytest.mark.parametrize("leaving", [EOFError, KeyboardInterrupt])
def test_leaving_early(leaving: type[BaseException]) -> None:
    def read(_: Text) -> str:
        raise leaving

    file = io.StringIO()
    run_play(PlayOptions(), Console(file=file, width=100, color_system=None), read)
    assert file.getvalue().endswith("\nGoodbye.\n")


def test_several_episodes_are_several_goals() -> None:
    shown = play(["hm"] * 40, PlayOptions(episodes=3))
    assert shown.count("\nNot solved, score ") == 3
    assert shown.count("The expert, on the same goal: solved") == 3


def test_what_cannot_be_played() -> None:
    with pytest.raises(UserError, match="expected episodes of at least 1; got 0"):
        PlayOptions(episodes=0)
    with pytest.raises(UserError, match="did you mean rlchat/Support-v0"):
        play([], PlayOptions(env="rlchat/Suport-v0"))
    with pytest.raises(UserError, match="got 'nobody'"):
        play([], PlayOptions(users="nobody"))


def test_a_person_sees_the_functions_and_calls_them() -> None:
    options = PlayOptions(env="rlchat/SupportTools-v0")
    ask = "Sorry! Could you please tell me your order number?"
    calls = ["/lookup_order order_id=Y9297", "/lookup_policy topic=warranty claims", "/nothing"]
    offer = "Thank you. I can give you a discount voucher."
    shown = play([ask, *calls, offer], options)
    assert "/lookup_order order_id: Look up an order.\n" in shown
    assert "Call a function with a line such as: /lookup_order order_id=…\n" in shown
    assert "  desk  Order Y9297: rice cooker, Alistair Delacroix. Status: warranty ex" in shown
    assert "  desk  Policy on warranty claims: " in shown
    assert "  desk  Error: there is no function nothing; there is lookup_order, " in shown
    assert "unsafe: needless_call" in shown and "Solved, score +1.00, 5 turns." in shown


def test_a_value_is_what_the_schema_asks_for() -> None:
    kinds = {"n": {"type": "integer"}, "s": {"type": "string"}, "l": {"type": "array"}}
    tool = Tool.of("f", "", {"type": "object", "properties": kinds})
    (call,) = read_message(called("/f n=3 s=4 or more l=[1, 2]", (tool,)), (tool,)).calls
    assert call.arguments == {"n": 3, "s": "4 or more", "l": [1, 2]} and not call.error
    (call,) = read_message(called("/f n=many", (tool,)), (tool,)).calls
    assert "n must be of type integer" in call.error
    assert called("Hello.", (tool,)) == "Hello."
