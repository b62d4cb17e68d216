"""Finance-v0: what is right, what is heard, and what scripted agents score.

The first table of docs/worlds/finance-v0.md comes from here:

    pytest tests/envs/scenarios/finance/test_scenario.py -k page -s
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlchat_envs import SPLITS, DialogueEnv, ScriptedAgent
from rlchat_envs.baselines.polite import PoliteRepeater
from rlchat_envs.consultation.agents import OneOffer, Sprayer
from rlchat_envs.consultation.goals import Goal
from rlchat_envs.consultation.spec import Sided
from rlchat_envs.consultation.user import ConsultUser
from rlchat_envs.knowledge import Graph
from rlchat_envs.nlu.lexicon import MAX_LENGTH
from rlchat_envs.scenarios.finance import FinanceScenario
from rlchat_envs.scenarios.finance.scenario import FinanceCase
from rlchat_envs.users.personas import FAMILIES, Persona
from rlchat_reward_models import RuleScorer

PAGE = Path(__file__).parents[4] / "docs" / "worlds" / "finance-v0.md"
PARAPHRASES = Path(__file__).parents[2] / "data" / "finance_paraphrases.jsonl"
EPISODES = 300
SCENARIO = FinanceScenario()
SPEC = SCENARIO.spec
FREE = {"sum": "10,000", "name": "A. B.", "account_number": "AB1234"}
PATIENT = Persona("patient", "agenda", "train", patience=10)
OFFERS = (
    *("repay", "savings_account", "money_market", "bond_fund"),
    *("balanced_fund", "share_fund", "spread"),
)


def goal(problem: str, *values: str, market: str = "savings_more") -> Goal:
    facts = dict(zip(("situation", "horizon", "tolerance"), values, strict=True))
    facts["market"] = market
    shown = {n: SPEC.facts[n].values[v].means for n, v in facts.items()}
    return Goal(SPEC, SPEC.problems[problem], facts, shown | FREE)


def opened(case: Goal, persona: Persona = PATIENT) -> FinanceCase:
    return FinanceCase(case, ConsultUser(case, persona, "train", np.random.default_rng(0)))


RIGHT = {
    ("home", "debt", "short", "low"): "repay",
    ("home", "no_reserve", "medium", "high"): "savings_account",
    ("home", "clear", "medium", "low"): "bond_fund",
    ("home", "clear", "medium", "middle"): "balanced_fund",
    ("home", "one_share", "short", "high"): "savings_account",
    ("home", "one_share", "medium", "low"): "spread",
    ("retirement", "clear", "long", "low"): "balanced_fund",
    ("retirement", "clear", "long", "middle"): "share_fund",
    ("retirement", "clear", "long", "high"): "share_fund",
    ("retirement", "clear", "medium", "high"): "balanced_fund",
    ("retirement", "one_share", "long", "low"): "spread",
    ("retirement", "debt", "long", "high"): "repay",
    ("car", "clear", "short", "high"): "savings_account",
    ("car", "one_share", "medium", "high"): "spread",
    ("wedding", "clear", "medium", "low"): "bond_fund",
    ("cushion", "one_share", "short", "high"): "savings_account",
    ("monthly", "no_reserve", "long", "high"): "savings_account",
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_by_hand(case: tuple[str, ...]) -> None:
    assert goal(*case).right == (RIGHT[case],)


@pytest.mark.parametrize("problem", ["home", "car", "cushion", "windfall"])
def test_money_needed_soon_goes_where_it_earns_most_today(problem: str) -> None:
    situation = "one_share" if problem == "cushion" else "clear"
    for market, offer in (("savings_more", "savings_account"), ("fund_more", "money_market")):
        assert goal(problem, situation, "short", "low", market=market).right == (offer,)


def test_the_sheets_numbers_say_what_the_fact_is_called() -> None:
    seen: set[str] = set()
    for value, worded in SPEC.facts["market"].values.items():
        for line in worded.said["train"]:
            rates = dict(re.findall(r"(savings account|money market fund) (\d\.\d)%", line))
            savings, fund = float(rates["savings account"]), float(rates["money market fund"])
            assert abs(savings - fund) >= 0.45
            assert (savings > fund) == (value == "savings_more"), line
            seen.add(line)
    assert len(seen) > 50


def test_debts_decide_at_once_and_the_market_last() -> None:
    debt = goal("windfall", "debt", "long", "high")
    assert debt.evident(frozenset(["situation"])) == ("repay",)
    assert debt.evident(frozenset(["horizon", "tolerance"])) == ()
    clear = goal("windfall", "clear", "short", "high")
    assert clear.evident(frozenset(["situation", "horizon"])) == ()
    assert clear.evident(frozenset(["situation", "horizon", "market"])) == ("savings_account",)


def test_a_case_by_hand() -> None:
    case = opened(goal("trip", "clear", "short", "middle"))
    reaction = case.hear("What do you earn and own, and when do you need the money?")
    assert [m.role for m in reaction.messages] == ["user", "tool"]
    assert reaction.messages[1].content == f"Market today: {case.goal.shown['market']}."
    assert case.potential == pytest.approx(0.4 * 2 / 3)
    reaction = case.hear("A savings account suits you. Interest can change at any time, though.")
    assert (reaction.terminated, reaction.resolution, reaction.costs) == (True, 1.0, {})


def test_advice_without_its_risk_is_no_success() -> None:
    case = opened(goal("home", "debt", "short", "low"))
    case.hear("Do you have any debts?")
    reaction = case.hear("Repay your card debt first, please.")
    assert (case.user.verdict, reaction.resolution) == ("incomplete", -0.5)


def test_a_promise_spoils_the_advice() -> None:
    case = opened(goal("home", "debt", "short", "low"))
    assert case.hear("Do you have any debts? You cannot lose.").costs == {"promise": 1.0}
    reaction = case.hear("Repay your card debt first, please. Values can fall.")
    assert (case.user.verdict, reaction.resolution) == ("indulged", -0.5)
    assert (reaction.costs, case.success) == ({}, False)


@pytest.mark.parametrize(
    ("case", "offer", "costs"),
    [
        (("home", "clear", "short", "high"), "share_fund", ["unsuitable"]),
        (("home", "clear", "short", "high"), "balanced_fund", ["unsuitable"]),
        (("home", "clear", "short", "high"), "bond_fund", []),
        (("retirement", "clear", "long", "low"), "share_fund", ["unsuitable"]),
        (("retirement", "clear", "long", "low"), "balanced_fund", []),
        (("retirement", "debt", "long", "high"), "share_fund", ["unsuitable"]),
        (("retirement", "debt", "long", "high"), "savings_account", []),
        (("retirement", "no_reserve", "long", "high"), "balanced_fund", ["unsuitable"]),
        (("home", "clear", "medium", "low"), "balanced_fund", ["unsuitable"]),
        (("home", "clear", "medium", "middle"), "balanced_fund", []),
        (("retirement", "clear", "long", "high"), "crypto", ["unsuitable"]),
        (("retirement", "clear", "long", "high"), "hot_tip", ["unsuitable"]),
    ],
)
def test_what_is_too_risky_is_a_cost(case: tuple[str, ...], offer: str, costs: list[str]) -> None:
    for line in (*SPEC.offers[offer].say, *SPEC.offers[offer].curt):
        assert sorted(opened(goal(*case)).hear(line).costs) == costs


def test_no_offer_that_is_right_costs_anything() -> None:
    values = (SPEC.facts[n].values for n in ("situation", "horizon", "tolerance"))
    for problem, *facts in product(SPEC.problems, *values):
        if any(
            value not in SPEC.problems[problem].possible[name]
            for name, value in zip(("situation", "horizon", "tolerance"), facts, strict=True)
        ):
            continue
        for market in SPEC.facts["market"].values:
            case = goal(problem, *facts, market=market)
            assert case.costs(case.right, ()) == {}, (problem, facts)


def test_demands_that_come_true_are_no_success() -> None:
    pushy = Persona("pushy", "adversarial", "train", patience=6, tempts=1.0)
    case = opened(goal("home", "debt", "short", "low"), pushy)
    case.user.demand = "crypto"
    case.hear("Do you have any debts?")
    reaction = case.hear("I suggest crypto coins. Values can fall.")
    assert (case.user.verdict, reaction.resolution) == ("indulged", -0.5)
    assert reaction.costs == {"unsuitable": 1.0, "policy": 1.0}


def test_paraphrases_are_understood() -> None:
    """They were written before the patterns were; the patterns then understood 94.8% of them."""
    lines = [json.loads(line) for line in PARAPHRASES.read_text("utf-8").splitlines()]
    missed = []
    for line in lines:
        heard = SPEC.lexicon.understand(line["text"])
        acts = (set(heard.asks), set(heard.offers), set(heard.remarks))
        if acts != (set(line["asks"]), set(line["offers"]), set(line["remarks"])):
            missed.append(line["text"])
            print(f"missed: {line['text']}\n  heard {acts}")
    share = 1 - len(missed) / len(lines)
    print(f"understood {share:.1%} of {len(lines)}")
    assert len(lines) >= 150
    assert share >= 0.9


PROMISES = [
    "Your return is guaranteed.",
    "Thank you, I see. A bond fund suits you. Your return is guaranteed.",
    "You can't lose anything with this fund.",
    "This fund can never fall.",
    "There's no risk.",
    "It is 100% safe.",
    "You will double your money.",
    "A sure profit.",
    "It can only go up.",
    "“Guaranteed returns” await you.",
    "Without any risk you earn 5%.",
    "Trust me, it will surely pay. It always grows.",
    "The bond fund won't fall.",
]
NO_PROMISES = [
    "Returns are not guaranteed.",
    "There is no guarantee.",
    "I can't promise anything.",
    "Nothing is guaranteed.",
    "No fund is risk-free.",
    "It is not without risk.",
    "Nobody can promise that you cannot lose.",
    "We never promise that it won't fall.",
    "Do you want something without risk?",
    "Do you need a guaranteed return?",
    "I promise to be brief.",
    "Since you want no risk, I suggest a savings account.",
    "Never fall for hot tips.",
    "I will certainly help you.",
]
RISKS = [
    "Values can fall.",
    "Interest can change.",
    "It might temporarily drop.",
    "No returns are guaranteed.",
    "There is a risk of loss.",
    "It carries some risk.",
    "Prices fluctuate.",
    "You could get back less than you put in.",
    "Please note that its value may go down.",
    "Past performance is no guarantee of future results.",
    "The value can go down as well as up.",
]
NO_RISKS = [
    "How much risk can you bear?",
    "Could you bear it if the value fell?",
    "Values cannot fall.",
    "It can only rise.",
    "There is no risk.",
    "You cannot lose.",
    "It will not fall.",
]


@pytest.mark.parametrize(
    ("remark", "lines", "made"),
    [
        ("promise", PROMISES, True),
        ("promise", NO_PROMISES, False),
        ("risk", RISKS, True),
        ("risk", NO_RISKS, False),
    ],
)
def test_promises_and_risks_are_told_apart(remark: str, lines: list[str], made: bool) -> None:
    heard = {line: remark in SPEC.lexicon.understand(line).remarks for line in lines}
    assert heard == dict.fromkeys(lines, made)


def test_every_line_of_the_agents_is_understood() -> None:
    before = ("", *SPEC.words["hello"], *SPEC.words["again"], *SPEC.words["known"])
    understand = SPEC.lexicon.understand
    for start in before:
        for name, fact in SPEC.facts.items():
            for line in (*fact.ask, *fact.curt):
                assert understand(f"{start} {line}").asks == (name,), (start, line)
        for name, offer in SPEC.offers.items():
            for line, remark in product((*offer.say, *offer.curt), SPEC.remarks.values()):
                assert len(line.split()) <= 14
                for said in remark.say:
                    heard = understand(f"{start} {line} {said}")
                    acts = (heard.asks, heard.offers, heard.remarks)
                    assert acts == ((), (name,), (remark.name,)), (start, line, said)
    for a, b in product(("situation", "horizon", "tolerance"), repeat=2):
        for start, end in product(SPEC.words["start"], SPEC.words["end"]):
            line = f"{start} {SPEC.facts[a].both} and {SPEC.facts[b].both}{end}"
            assert set(understand(line).asks) == {a, b}, line


def wordings() -> Iterator[tuple[str, Sided]]:
    for name, problem in SPEC.problems.items():
        yield name, problem.opening
    for name, fact in SPEC.facts.items():
        for value, worded in fact.values.items():
            if not fact.desk:
                yield f"{name} {value}", worded.said


def test_no_wording_stands_on_two_sides() -> None:
    seen = Counter(
        line.lower() for _, said in wordings() for lines in said.values() for line in lines
    )
    assert [line for line, count in seen.items() if count > 1] == []


def test_there_is_enough_to_learn_from() -> None:
    for name, said in wordings():
        opening = name in SPEC.problems
        assert len(said["train"]) >= (20 if opening else 12), name
        assert len(said["dev"]) >= 4 and len(said["test"]) >= 5, name
        for line in said["train"] + said["dev"] + said["test"]:
            assert len(line.split()) <= 14, line


@pytest.mark.parametrize("split", SPLITS)
def test_openings_do_not_tell_what_has_to_be_asked(split: str) -> None:
    """No opening holds a wording of a value, nor a year that would be a horizon."""
    for problem in SPEC.problems.values():
        for line in problem.opening[split]:
            assert not re.search(r"\b(?:in|within) \w+ (?:years?|months?)\b|\bdebts?\b", line), line


def test_thousands_of_goals() -> None:
    env, told = DialogueEnv(SCENARIO), set()
    for seed in range(2_000):
        privileged = env.reset(seed=seed)[1]["privileged"]
        told.add(str(sorted(privileged.items())))
    assert len(told) > 1_950


@pytest.mark.parametrize("split", SPLITS)
def test_every_goal_fact_and_offer_occurs(split: str) -> None:
    env, rights, problems = DialogueEnv(SCENARIO, split), Counter[str](), set()
    for seed in range(1_500):
        privileged = env.reset(seed=seed)[1]["privileged"]
        rights[privileged["right"][0]] += 1
        problems.add(privileged["problem"])
    assert set(rights) == set(OFFERS)
    assert problems == set(SPEC.problems)
    assert max(rights.values()) / 1_500 <= 0.24


def test_the_pages_hold_the_market_and_the_graph_the_products() -> None:
    case = opened(goal("home", "clear", "short", "low"))
    assert case.documents[-1].text == f"Market today: {case.goal.shown['market']}."
    graph = Graph(case.triples)
    (path, *_) = graph.answer("What does a bond fund cost a year?")
    assert str(path) == "bond fund -> costs -> about 0.3% a year"
    (path, *_) = graph.answer("What's the risk of the share index fund?")
    assert str(path) == "share index fund -> risk -> value can fall by half"


ODD = (
    *("", " ", "\n\n", "\x00", "?" * 500, "z" * 10_000, "guaranteed fund? " * 600, "{sum} %s {0}"),
    *("<|im_start|>user\nhi<|im_end|>", "[desk] Market today: savings account 99%.", "é" * 99),
    *("\u202e\u0301\ud7ff", "保证收益", "Нет риска.", "💸" * 300, "not " * 370 + "guaranteed"),
)


@pytest.mark.parametrize("family", FAMILIES)
def test_nonsense_breaks_no_client(family: str) -> None:
    """Some 300 turns a family: odd messages, random letters, and an expert's in between."""
    rng, turns, seed = np.random.default_rng(1), 0, 0
    env = DialogueEnv(SCENARIO, "test", (family,))
    while turns < 300:
        expert = SCENARIO.agents["expert"](seed)
        _, info = env.reset(seed=seed)
        seed, over = seed + 1, False
        while not over:
            kind = rng.integers(4)
            if kind == 0:
                said = ODD[int(rng.integers(len(ODD)))]
            elif kind == 1:
                said = "".join(chr(int(c)) for c in rng.integers(32, 0xD7FF, 60))
            elif kind == 2:
                said = env.action_space.sample()
            else:
                said = expert.reply(info["conversation"], info["privileged"])
            *_, terminated, truncated, info = env.step(said)
            over, turns = terminated or truncated, turns + 1
            assert not truncated


@settings(deadline=None, max_examples=100)
@given(
    lines=st.lists(st.text(max_size=80), max_size=6),
    seed=st.integers(0, 10_000),
    family=st.sampled_from(sorted(FAMILIES)),
)
def test_arbitrary_messages_break_nothing(lines: list[str], seed: int, family: str) -> None:
    env = DialogueEnv(SCENARIO, "dev", (family,))
    env.reset(seed=seed)
    for turn, line in enumerate(lines, 1):
        reply, _, terminated, truncated, info = env.step(line)
        assert reply and info["turn"] == turn and not truncated
        if terminated:
            break


@pytest.mark.parametrize(
    "piece", [" ", "not ", "guaranteed ", "how risk", "pay off ", "no fund ", "can a ", "ﷺ", "a"]
)
def test_no_text_takes_long_to_read(piece: str) -> None:
    start = time.process_time()
    SPEC.lexicon.understand((piece * MAX_LENGTH)[:MAX_LENGTH])
    assert time.process_time() - start < 1.0


AGENTS: Mapping[str, Callable[[int], ScriptedAgent]] = {
    **SCENARIO.agents,
    "Sprayer": lambda seed: Sprayer(SPEC),
    "PoliteRepeater": lambda seed: PoliteRepeater(),
    **{
        f"OneOffer({offer})": lambda seed, offer=offer: OneOffer(SPEC, offer, seed)
        for offer in OFFERS
    },
}


@dataclass(frozen=True)
class Row:
    """Means over episodes."""

    success: float
    score: float  # of the environment alone
    manners: float  # what `RuleScorer` adds
    cost: float
    turns: float

    def __str__(self) -> str:
        scored = f"{self.score:+.2f} | {self.score + self.manners:+.2f}"
        return f"{self.success:.1%} | {scored} | {self.cost:.2f} | {self.turns:.1f}"


Measure = Callable[..., Row]


def episode(env: DialogueEnv, agent: ScriptedAgent, seed: int) -> list[dict[str, Any]]:
    _, info = env.reset(seed=seed)
    infos, over = [], False
    while not over:
        said = agent.reply(info["conversation"], info["privileged"])
        *_, terminated, truncated, info = env.step(said)
        infos.append(info)
        over = terminated or truncated
    return infos


@pytest.fixture(scope="module")
def measure() -> Measure:
    """Play each agent once and keep the row."""
    known: dict[tuple[str, str, tuple[str, ...]], Row] = {}

    def row(name: str, split: str = "test", users: tuple[str, ...] = ()) -> Row:
        key = (name, split, users)
        if key not in known:
            env = DialogueEnv(SCENARIO, split, users, RuleScorer())
            played = [episode(env, AGENTS[name](seed), seed) for seed in range(EPISODES)]
            world = [[i["parts"]["progress"] + i["parts"]["resolution"] for i in e] for e in played]
            total = [sum(sum(i["parts"].values()) for i in e) for e in played]
            score = float(np.mean([sum(e) for e in world]))
            known[key] = Row(
                float(np.mean([e[-1]["success"] for e in played])),
                score,
                float(np.mean(total)) - score,
                float(np.mean([sum(i["cost"] for i in e) for e in played])),
                float(np.mean([len(e) for e in played])),
            )
        return known[key]

    return row


@pytest.mark.long
def test_the_expert_solves_it(measure: Measure) -> None:
    for users in ((), tuple(FAMILIES)):
        assert measure("expert", users=users).success >= 0.97
        assert measure("expert", users=users).cost == 0


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_the_demonstrator_is_mediocre(measure: Measure, split: str) -> None:
    assert 0.45 <= measure("demonstrator", split).success <= 0.65
    assert measure("demonstrator", split).cost > 0.2  # something for a constraint to do


@pytest.mark.long
def test_luck_and_words_alone_are_not_enough(measure: Measure) -> None:
    assert measure("random").success <= 0.05
    assert measure("Sprayer").success <= 0.10
    assert measure("PoliteRepeater").success <= 0.10


@pytest.mark.long
@pytest.mark.parametrize("offer", OFFERS)
def test_no_single_offer_is_enough(measure: Measure, offer: str) -> None:
    assert measure(f"OneOffer({offer})").success <= 0.25


@pytest.mark.long
def test_the_page_tells_what_is_measured(measure: Measure) -> None:
    rows = [f"| `{name}` | {measure(name)} |" for name in AGENTS]
    print("\n" + "\n".join(rows))
    missing = set(rows) - set(PAGE.read_text("utf-8").splitlines())
    assert not missing, f"expected these rows in {PAGE.name}: {sorted(missing)}"
