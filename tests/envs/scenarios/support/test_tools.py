"""The desk that calls functions, and what scripted desks achieve at it.

The table of docs/worlds/support-v0.md comes from here:

    pytest tests/envs/scenarios/support/test_tools.py -k page -s
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlchat_envs import SPLITS, DialogueEnv, write_call
from rlchat_envs.baselines.polite import PoliteRepeater
from rlchat_envs.baselines.retrieval import RetrievalAgent
from rlchat_envs.core.tools import write_message
from rlchat_envs.scenarios.support import SupportScenario, SupportToolsScenario
from rlchat_envs.scenarios.support.agents import Sprayer
from rlchat_envs.scenarios.support.goals import INTENTS
from rlchat_envs.users.personas import FAMILIES
from rlchat_reward_models import RuleScorer

PAGE = Path(__file__).parents[4] / "docs" / "worlds" / "support-v0.md"
EPISODES = 300
SCENARIO = SupportToolsScenario()
AGENTS: dict[str, Any] = {
    **SCENARIO.agents,
    "retrieval": lambda seed: RetrievalAgent(SCENARIO, seed),
    "Sprayer": lambda seed: Sprayer(),
    "PoliteRepeater": lambda seed: PoliteRepeater(),
}
ORDER = ["expert", "demonstrator", "knowledge-graph", "retrieval", "random"]


@cache
def measure(name: str, split: str = "test", users: tuple[str, ...] = ()) -> tuple[float, ...]:
    """Means of success, the environment's score, that with manners, turns and cost."""
    env = DialogueEnv(SCENARIO, split, users, RuleScorer())
    rows = []
    for seed in range(EPISODES):
        _, info = env.reset(seed=seed)
        agent, own, total, cost, over = AGENTS[name](seed), 0.0, 0.0, 0.0, False
        while not over:
            said = agent.reply(info["conversation"], info["privileged"])
            _, score, terminated, truncated, info = env.step(said)
            own += info["parts"]["progress"] + info["parts"]["resolution"]
            total, cost, over = total + score, cost + info["cost"], terminated or truncated
        rows.append((float(info["success"]), own, total, float(info["turn"]), cost))
    return tuple(round(float(mean), 6) for mean in np.mean(rows, axis=0))


@pytest.mark.parametrize("split", SPLITS)
def test_the_expert_always_reaches_the_goal_at_no_cost(split: str) -> None:
    for users in ((), tuple(FAMILIES)):
        success, score, *_, cost = measure("expert", split, users)
        assert success == 1 and score == pytest.approx(1.0) and cost == 0


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_the_demonstrator_is_mediocre(split: str) -> None:
    success, *_, cost = measure("demonstrator", split)
    assert 0.5 <= success <= 0.75 and cost > 0.2


@pytest.mark.long
def test_words_luck_and_memory_are_not_enough() -> None:
    assert measure("PoliteRepeater")[0] == measure("Sprayer")[0] == measure("random")[0] == 0
    assert measure("retrieval")[0] < measure("demonstrator")[0]
    assert measure("knowledge-graph")[0] > 0.9


@pytest.mark.long
def test_the_page_tells_what_is_measured() -> None:
    rows = []
    for name in [*ORDER, "Sprayer", "PoliteRepeater"]:
        success, own, total, turns, cost = measure(name)
        rows.append(
            f"| `{name}` | {success:.1%} | {own:+.2f} | {total:+.2f} | {turns:.1f} | {cost:.2f} |"
        )
    print("\n" + "\n".join(rows))
    missing = set(rows) - set(PAGE.read_text("utf-8").splitlines())
    assert not missing, f"expected these rows in {PAGE.name}: {sorted(missing)}"


def test_users_goals_and_sides_are_those_of_the_desk_without_functions() -> None:
    for split in SPLITS:
        plain, calling = DialogueEnv(SupportScenario(), split), DialogueEnv(SCENARIO, split)
        for seed in range(50):
            one, other = plain.reset(seed=seed)[1], calling.reset(seed=seed)[1]
            told = other["privileged"]
            assert {k: told[k] for k in one["privileged"]} == one["privileged"]
            assert one["conversation"][1:] == other["conversation"][1:]


def order(number: str) -> str:
    return write_call("lookup_order", {"order_id": number})


def policy(intent: str) -> str:
    return write_call("lookup_policy", {"topic": INTENTS[intent].subject})


class Talk:
    """A conversation with a plain customer, and what it has cost."""

    def __init__(self, seed: int = 0, users: tuple[str, ...] = ("agenda",)):
        self.env = DialogueEnv(SCENARIO, users=users)
        _, info = self.env.reset(seed=seed)
        self.goal, self.over = info["privileged"], False

    def say(self, text: str) -> str:
        heard, self.score, self.over, _, self.info = self.env.step(text)
        return heard

    @property
    def cost(self) -> float:
        return float(self.info["costs"].get("needless_call", 0))


def test_nothing_is_shown_unasked_and_no_offer_counts_without_the_order() -> None:
    talk = Talk()
    said = talk.say("May I have your order number, please?")
    assert talk.goal["order_number"] in said and "[desk]" not in said
    talk.say(f"I offer you this: {talk.env.case.solution}.")
    assert not talk.over and not talk.info["success"]


def test_lookups_answer_with_record_and_policy() -> None:
    talk = Talk()
    number = talk.goal["order_number"]
    talk.say("May I have your order number, please?")
    heard = talk.say(write_message("", [order(f" #{number.lower()}"), policy(talk.goal["intent"])]))
    assert heard.count("[desk] ") == 2 and f"Status: {talk.goal['status']}." in heard
    assert talk.score == pytest.approx(0.4) and not talk.cost
    assert talk.say(order(number)).startswith("[desk] Order") and talk.cost == 1
    other = next(name for name in INTENTS if name != talk.goal["intent"])
    assert talk.say(policy(other)).startswith("[desk] Policy on") and talk.cost == 1


def test_an_order_that_nobody_named_is_a_guess() -> None:
    talk = Talk()
    assert talk.say(order("A0000")) == "[desk] There is no order A0000." and talk.cost == 1
    talk.say(order(talk.goal["order_number"]))
    assert talk.cost == 1  # right, but by luck


def test_a_number_told_wrongly_may_be_looked_up_once() -> None:
    talk = Talk(users=("forgetful",))
    for seed in range(200):
        talk = Talk(seed, ("forgetful",))
        said = talk.say("May I have your order number, please?")
        wrong = [w.strip(".,") for w in said.split() if w[1:5].isdigit() and w[0].isupper()]
        if wrong and wrong[0] != talk.goal["order_number"]:
            break
    assert "There is no order" in talk.say(order(wrong[0])) and talk.cost == 0
    talk.say(order(wrong[0]))
    assert talk.cost == 1


def test_needless_calls_cost_patience_and_at_last_the_customer() -> None:
    talk = Talk()
    calls = 0
    while not talk.over:
        heard = talk.say("<tool_call>not a call</tool_call>")
        calls += 1
    assert calls == talk.goal["patience"]
    assert not talk.info["success"] and talk.info["parts"]["resolution"] < 0
    assert "\n" in heard.strip()  # the error, and the customer's last words


def test_a_person_in_the_users_place_keeps_their_own_patience() -> None:
    env = DialogueEnv(SCENARIO)
    env.reset(seed=0)
    env.tell("It never came.")
    for _ in range(30):
        turn = env.answer("<tool_call>not a call</tool_call>", said="")
        assert not turn.terminated and [m.role for m in turn.messages] == ["tool"]
    number = env.case.privileged["order_number"]
    env.answer("May I have your order number?", said=f"It is {number}.")
    assert env.case.privileged["told_number"]
    assert env.answer(order(number), said="").messages[0].content.startswith(f"Order {number}")
    assert env.verdict(f"{order(number)} I give you a full refund.") is None
