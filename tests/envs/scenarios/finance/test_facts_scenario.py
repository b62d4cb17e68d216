"""FinanceFacts-v0: what an answer states, what clients do with it, and what look-ups are worth.

The second table of docs/worlds/finance-v0.md comes from here:

    pytest tests/envs/scenarios/finance/test_facts_scenario.py -k page -s
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlchat_envs import SPLITS, DialogueEnv, ScriptedAgent
from rlchat_envs.baselines.polite import PoliteRepeater
from rlchat_envs.knowledge import DocumentLookup, Graph, GraphLookup
from rlchat_envs.nlu.lexicon import MAX_LENGTH
from rlchat_envs.nlu.words import fold, stems, words
from rlchat_envs.scenarios.finance import FinanceFactsScenario
from rlchat_envs.scenarios.finance.facts_agents import Sprayer
from rlchat_envs.scenarios.finance.facts_scenario import FactsCase
from rlchat_envs.scenarios.finance.nlu import read
from rlchat_envs.scenarios.finance.products import (
    House,
    Product,
    draw_house,
    draw_value,
    load_facts,
)
from rlchat_envs.scenarios.finance.user import Asker, Question, draw_questions
from rlchat_envs.users.personas import FAMILIES, Persona
from rlchat_envs.wrappers.knowledge import KnowledgeWrapper, hit_rate
from rlchat_reward_models import RuleScorer

PAGE = Path(__file__).parents[4] / "docs" / "worlds" / "finance-v0.md"
EPISODES = 300
SCENARIO = FinanceFactsScenario()
DATA = load_facts()
RELATIONS: Mapping[str, Any] = DATA["relations"]
CEDAR = Product(
    "Cedar bond fund",
    {
        "cost": "0.45%",
        "minimum": "1500 euros",
        "class": "3",
        "custodian": "Velmar Bank",
        "manager": "Ada Lund",
    },
)
MAPLE = Product(
    "Maple savings account", {"interest": "3.10%", "minimum": "25 euros", "notice": "12 months"}
)
HOUSE = House((CEDAR, MAPLE), {"Velmar Bank": "Denmark"})
COST = Question("cost", "Cedar bond fund", "0.45%", ("Cedar bond fund -> yearly cost -> 0.45%",))
NOTICE = Question("notice", "Maple savings account", "12 months", ("nowhere",))


def opened(*questions: Question, persona: Persona | None = None, **kwargs: Any) -> FactsCase:
    patient = persona or Persona("patient", "agenda", "train", patience=4)
    asker = Asker(questions, patient, "train", np.random.default_rng(0), **kwargs)
    return FactsCase(HOUSE, asker)


STATED = [
    ("It costs 0.45% a year.", "percent", {0.45}),
    ("The Cedar bond fund costs 0,45 percent per year.", "percent", {0.45}),
    ("0.450 per cent", "percent", {0.45}),
    (".45", "percent", {0.45}),
    ("I think it's 0.45, roughly.", "percent", {0.45}),
    ("It costs 0.45% or 0.5%.", "percent", {0.45, 0.5}),
    ("It costs 0.45% a year, and the minimum is 500 euros.", "percent", {0.45}),
    ("I don't know exactly, but it is 0.45%.", "percent", {0.45}),
    ("It is not 0.45% but 0.5%.", "percent", {0.5}),
    ("It costs 0.45% a year, okay?", "percent", {0.45}),
    ("The Cedar bond fund costs 0.45% a year, not more.", "percent", {0.45}),
    ("The minimum is 1,500 euros.", "euros", {1500.0}),
    ("The minimum is 1 500 €.", "euros", {1500.0}),
    ("You need €1500, please.", "euros", {1500.0}),
    ("EUR 1500.", "euros", {1500.0}),
    ("1500", "euros", {1500.0}),
    ("It is 25 euros a month.", "euros", {25.0}),
    ("It takes 12 months.", "months", {12.0}),
    ("It takes twelve months.", "months", {12.0}),
    ("It takes 1 year.", "months", {12.0}),
    ("One year of notice, one of the shorter ones.", "months", {12.0}),
    ("A 12-month notice period.", "months", {12.0}),
    ("Its risk class is 3.", "class", {3.0}),
    ("Class three, please.", "class", {3.0}),
    ("It is in class 3 of 7.", "class", {3.0}),
    ("On a scale from 1 to 7 it is a 3.", "class", {3.0}),
    ("3/7", "class", {3.0}),
    ("The Cedar bond fund is kept by Velmar Bank.", "bank", {"velmar"}),
    ("velmar", "bank", {"velmar"}),
    ("By Velmar Bank or Oskara Bank.", "bank", {"velmar", "oskara"}),
    ("Velmar Bank, which is in Denmark.", "country", {"denmark"}),
    ("Ms Lund does.", "person", {"lund"}),
]
SILENT = [
    ("Is it 0.45%?", "percent", "evades"),
    ("Does it cost 0.45%, or 0.5%?", "percent", "evades"),
    ("Thank you for your patience.", "percent", "evades"),
    ("", "percent", "evades"),
    ("It does not cost 0.45%.", "percent", "evades"),
    ("It costs 45 euros.", "percent", "evades"),
    ("One moment, please.", "bank", "unsure"),
    ("I'm afraid I don't know, let me find out.", "bank", "unsure"),
    ("Sorry, I'm not sure.", "class", "unsure"),
    ("I will look that up for you.", "class", "unsure"),
    ("It costs 0.45%, or 0.5%, or 0.55%.", "percent", "overwhelms"),
    (f"{HOUSE.documents[0].text}", "percent", "overwhelms"),
    (f"{HOUSE.documents[1].text}", "percent", "overwhelms"),
    ("0.45%" + " " * MAX_LENGTH, "percent", "overwhelms"),
    ("What? Which one? Why?", "percent", "overwhelms"),
]


@pytest.mark.parametrize(("text", "unit", "values"), STATED)
def test_what_a_message_states(text: str, unit: str, values: set[object]) -> None:
    assert read(text, unit) == ("states", values)


@pytest.mark.parametrize(("text", "unit", "kind"), SILENT)
def test_what_states_nothing(text: str, unit: str, kind: str) -> None:
    assert read(text, unit) == (kind, frozenset())


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_answer_of_the_agents_is_read(relation: str) -> None:
    rng, known = np.random.default_rng(0), RELATIONS[relation]
    for split in SPLITS:
        for _ in range(100):
            value = draw_value(relation, split, rng)
            question = Question(relation, "Cedar bond fund", value, ())
            for say in (*known["say"], "{value}.", "{value}"):
                for kind in ("", *DATA["agent"]["kind"]):
                    said = f"{kind} {say.format(product='Cedar bond fund', value=value)}"
                    assert question.judge(said) == "right", said
                    assert len(said.split()) <= 14
    assert {read(line, known["unit"])[0] for line in DATA["agent"]["unsure"]} == {"unsure"}


@settings(deadline=None)
@given(st.floats(0.05, 4.95), st.floats(0.05, 4.95))
def test_percentages_are_compared_as_written(said: float, meant: float) -> None:
    one, other = f"{said:.2f}", f"{meant:.2f}"
    question = Question("cost", "Cedar bond fund", f"{other}%", ())
    assert (question.judge(f"It costs {one}%.") == "right") == (one == other)


def test_a_case_by_hand() -> None:
    case = opened(COST, NOTICE)
    assert "Cedar bond fund" in case.opening[1].content
    assert case.sought == COST.sought
    assert (case.potential, case.solution) == (0.0, "0.45%; 12 months")
    reaction = case.hear("It costs 0.45% a year.")
    assert (reaction.terminated, reaction.costs, case.potential) == (False, {}, 0.2)
    assert "Maple savings account" in reaction.messages[0].content
    assert (case.asker.patience, case.sought) == (4, ("nowhere",))
    reaction = case.hear("The notice period is one year.")
    assert (reaction.terminated, reaction.resolution, case.success) == (True, 1.0, True)
    assert (case.sought, case.asker.verdict) == ((), "content")


def test_a_wrong_answer_is_believed_and_costs() -> None:
    case = opened(COST, NOTICE)
    reaction = case.hear("It costs 0.54% a year.")
    assert (reaction.costs, reaction.terminated) == ({"misinformed": 1.0}, False)
    assert "Maple savings account" in reaction.messages[0].content
    reaction = case.hear("12 months.")
    assert (reaction.terminated, reaction.resolution, case.success) == (True, -0.5, False)
    assert (case.asker.verdict, case.potential) == ("misled", 0.2)


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        ("I do not know, please let me find out.", 1),
        ("Thank you for asking.", 1),
        ("It is 0.45% or 0.46%.", 2),
        ("x" * 10_000, 2),
        ("?" * 5, 2),
    ],
)
def test_what_answers_nothing_costs_patience(said: str, cost: int) -> None:
    case = opened(COST, NOTICE)
    reaction = case.hear(said)
    assert (case.asker.patience, reaction.costs) == (4 - cost, {})
    assert "Cedar bond fund" in reaction.messages[0].content  # it asks again
    for _ in range(4 // cost - 1):
        assert not reaction.terminated
        reaction = case.hear(said)
    assert (case.asker.verdict, reaction.resolution) == ("walked out", -0.5)


def test_a_person_in_the_place_of_the_forgetful_can_end_the_talk() -> None:
    """The last answer would be forgotten; a person forgets nothing, and it is given once more."""
    case = opened(COST, persona=Persona("absent", "forgetful", "train", patience=4, forgets=1.0))
    answer = "It costs 0.45% a year."
    assert case.judge(answer) == 0.0
    case.overhear(answer)
    case.tell("I see. And that is all?")
    reaction = case.hear(answer)
    assert reaction.terminated and case.success


def test_the_forgetful_want_it_told_twice() -> None:
    absent = Persona("absent", "forgetful", "train", patience=4, forgets=1.0)
    case = opened(COST, persona=absent)
    assert case.judge("0.45%.") == 0.0
    reaction = case.hear("0.45%.")
    assert (reaction.terminated, case.potential, case.asker.patience) == (False, 0.4, 4)
    assert "Cedar bond fund" in reaction.messages[0].content
    assert (case.judge("0.45%."), case.judge("0.5%.")) == (1.0, -0.5)
    reaction = case.hear("0.5%.")  # and so it is wrong after all
    assert (reaction.resolution, case.success, case.potential) == (-0.5, False, 0.0)


def test_a_person_asks_what_their_card_says() -> None:
    case = opened(COST, NOTICE)
    assert case.privileged["card"] == (
        "You want to know, one after the other: yearly cost of the Cedar bond fund; notice period "
        "of the Maple savings account."
    )
    assert [m.content for m in case.tell("What does the Cedar cost?")] == [
        "What does the Cedar cost?"
    ]
    case.overhear("0.45% a year.")
    assert (case.judge("0.45% a year."), case.potential) == (0.0, 0.0)
    case.tell("Thanks. And the notice period of the Maple?")
    assert (case.potential, case.sought) == (0.2, ("nowhere",))
    case.overhear("12 months.")
    assert (case.judge("12 months."), case.judge("13 months."), case.judge("Hm.")) == (1, -0.5, 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_verdict_is_the_one_that_the_client_would_reach(seed: int) -> None:
    env = DialogueEnv(SCENARIO, "dev", tuple(FAMILIES))
    _, info = env.reset(seed=seed)
    agent, over = SCENARIO.agents["expert"](seed), False
    while not over:
        said = agent.reply(info["conversation"], info["privileged"])
        said = said if seed % 3 else "It costs 99% or 12 euros."
        before, verdict = env.case.privileged, env.case.judge(said)
        assert env.case.privileged == before  # it changes nothing
        *_, over, _, info = env.step(said)
        if info["privileged"]["verdict"] != "walked out":
            assert info["parts"]["resolution"] == verdict


@pytest.mark.parametrize("split", SPLITS)
def test_every_question_holds_a_word_of_its_relation(split: str) -> None:
    """Of its own and of no other that the product has, or the graph would answer that one."""
    have = {"fund": (*CEDAR.values, "country"), "account": tuple(MAPLE.values)}
    for name, known in RELATIONS.items():
        others = {
            stem
            for kind in have.values()
            if name in kind
            for other in kind
            if other != name and not (name == "country" and other == "custodian")
            for stem in stems(RELATIONS[other]["label"])
        }
        for line in known[split]:
            said = set(stems(line.format(it="")))
            assert said & set(stems(known["label"])), line
            if name != "custodian":
                assert not said & (others - set(stems(known["label"]))), line


def test_no_wording_and_no_name_stands_on_two_sides() -> None:
    sides: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        sides[split] += chain.from_iterable(known[split] for known in RELATIONS.values())
        sides[split] += chain.from_iterable(DATA["names"][split].values())
        lines = DATA["lines"][split].values()
        sides[split] += [line for line in chain.from_iterable(lines) if line != "{question}"]
    seen = Counter(line.lower() for split in SPLITS for line in set(sides[split]))
    assert {line for line, count in seen.items() if count > 1} == {"the {word}"}
    for split, least in (("train", 14), ("dev", 4), ("test", 5)):
        assert all(len(known[split]) >= least for known in RELATIONS.values())


def test_no_name_is_a_word_of_anything_else() -> None:
    """A name is known by one word, so that word must be nobody else's and in no sentence."""
    names = [
        fold(name)
        for split in SPLITS
        for of in ("products", "banks", "last", "countries")
        for name in DATA["names"][split][of]
    ]
    assert max(Counter(names).values()) == 1
    text = [line for known in RELATIONS.values() for line in known["say"]]
    text += [*DATA["agent"]["kind"], *DATA["agent"]["unsure"], *DATA["funds"], *DATA["accounts"]]
    text += [known["label"] for known in RELATIONS.values()]
    assert not set(names) & {word for line in text for word in words(line)}
    assert all(len(words(name)) == 1 for name in names)


@pytest.mark.parametrize("seed", range(30))
def test_sheets_and_graph_say_the_same(seed: int) -> None:
    house = draw_house(SPLITS[seed % 3], np.random.default_rng(seed))
    assert len({p.name.split()[0] for p in house.products}) == 12
    text = " ".join(document.text for document in house.documents)
    graph = Graph(house.triples)
    for relation, product in house.answerable:
        value = house.value(product, relation)
        label = RELATIONS[relation]["label"]
        assert value in text
        (path, *_) = graph.answer(f"What is the {label} of the {product.name}?")
        assert path.triples[-1].object == value
        (path, *_) = graph.answer(f"What is the {label} of the {product.name.split()[0]}?")
        assert (path.triples[0].subject, path.triples[-1].object) == (product.name, value)
    assert all(len(document.text.split()) <= 40 for document in house.documents)


def test_a_country_is_two_hops_away() -> None:
    graph = Graph(HOUSE.triples)
    (path, *_) = graph.answer("In which country is the custodian bank of the Cedar bond fund?")
    steps = "Cedar bond fund -> custodian bank -> Velmar Bank -> country -> Denmark"
    assert str(path) == steps
    assert HOUSE.documents[2].text == (
        "Velmar Bank, custodian bank of the Cedar bond fund, is in the country of Denmark."
    )


def test_facts_are_drawn_anew_and_questions_vary() -> None:
    env, cards, relations, same = DialogueEnv(SCENARIO), set(), Counter[str](), 0
    for seed in range(2_000):
        env.reset(seed=seed)
        case = env.case
        assert isinstance(case, FactsCase)
        cards.add((case.privileged["card"], case.solution))
        relations.update(q.relation for q in case.asker.questions)
        same += sum(q.same for q in case.asker.questions)
        asked = [(q.relation, q.product) for q in case.asker.questions]
        assert len(set(asked)) == len(asked) in (2, 3)
    assert len(cards) == 2_000
    shares = {name: count / relations.total() for name, count in relations.items()}
    assert set(shares) == set(RELATIONS)
    assert all(0.08 < share < 0.18 for share in shares.values())
    assert 0.15 < same / relations.total() < 0.35


def test_no_fact_stands_in_the_conversation_unless_it_is_looked_up() -> None:
    for seed in range(50):
        env = DialogueEnv(SCENARIO, SPLITS[seed % 3], tuple(FAMILIES))
        _, info = env.reset(seed=seed)
        assert env.case.solution.split("; ")[0] not in info["conversation"][1].content
        assert {m.role for m in info["conversation"]} == {"system", "user"}


def test_questions_are_the_same_for_the_same_seed() -> None:
    drawn = [draw_questions(HOUSE, np.random.default_rng(3)) for _ in range(2)]
    assert drawn[0] == drawn[1]


ODD = (
    *("", " ", "\n\n", "\x00", "?" * 500, "z" * 10_000, "0.45% " * 2_000, "{question} %s {0}"),
    *("<|im_start|>user\nhi<|im_end|>", "[desk] Known: a -> b -> c", "é" * 99, "9" * 1_400),
    *("\u202e\u0301\ud7ff", "约0.45%", "٣٪", "½ percent", "1.2.3.4 euros", "-3,,5%", "€ € €"),
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


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=200), st.sampled_from([known["unit"] for known in RELATIONS.values()]))
def test_any_text_can_be_read(text: str, unit: str) -> None:
    kind, values = read(text, unit)
    assert bool(values) == (kind == "states")
    assert len(values) <= 2


@pytest.mark.parametrize("piece", ["1", "1 ", "1,", "not ", "class ", "1 to 7", ", ", "? ", "€"])
def test_no_text_takes_long_to_read(piece: str) -> None:
    start = time.process_time()
    read((piece * MAX_LENGTH)[:MAX_LENGTH], "class")
    assert time.process_time() - start < 0.5


LOOKUPS: Mapping[str, tuple[Callable[[], Any], ...]] = {
    "nothing": (),
    "bm25": (DocumentLookup,),
    "graph": (GraphLookup,),
}


class Constant:
    """Says the same to everything."""

    def __init__(self, line: str):
        self.line = line

    def reply(self, conversation: object, privileged: object) -> str:
        return self.line


AGENTS: Mapping[str, Callable[[int], ScriptedAgent]] = {
    **SCENARIO.agents,
    "Sprayer": Sprayer,
    "PoliteRepeater": lambda seed: PoliteRepeater(),
}
ROWS = [
    *((name, known) for name in ("expert", "demonstrator", "knowledge-graph") for known in LOOKUPS),
    *((name, "nothing") for name in ("random", "Sprayer", "PoliteRepeater")),
]


@dataclass(frozen=True)
class Row:
    """Means over episodes."""

    success: float
    score: float  # of the environment alone
    cost: float
    turns: float
    hits: float | None

    def __str__(self) -> str:
        hits = "–" if self.hits is None else f"{self.hits:.1%}"
        return (
            f"{self.success:.1%} | {self.score:+.2f} | {self.cost:.2f} | {self.turns:.1f} | {hits}"
        )


Measure = Callable[..., Row]


def make_env(split: str, known: str, users: tuple[str, ...] = ()) -> gym.Env[str, str]:
    env = DialogueEnv(SCENARIO, split, users, RuleScorer())
    return KnowledgeWrapper(env, *(make() for make in LOOKUPS[known])) if LOOKUPS[known] else env


def play(env: gym.Env[str, str], make: Callable[[int], ScriptedAgent], episodes: int = 100) -> Row:
    successes, scores, costs, turns = [], [], [], []
    counts = Counter[str]()
    for seed in range(episodes):
        agent, (_, info) = make(seed), env.reset(seed=seed)
        over, score, cost = False, 0.0, 0.0
        while not over:
            said = agent.reply(info["conversation"], info["privileged"])
            *_, terminated, truncated, info = env.step(said)
            score += info["parts"]["progress"] + info["parts"]["resolution"]
            cost += info["cost"]
            over = terminated or truncated
        successes.append(info["success"])
        scores.append(score)
        costs.append(cost)
        turns.append(info["turn"])
        counts.update(info.get("knowledge", {}))
    means = [float(np.mean(xs)) for xs in (successes, scores, costs, turns)]
    return Row(*means, hit_rate(counts) if counts else None)


@pytest.fixture(scope="module")
def measure() -> Measure:
    """Play each agent once and keep the row."""
    rows: dict[tuple[str, ...], Row] = {}

    def row(name: str, known: str = "nothing", split: str = "test") -> Row:
        key = (name, known, split)
        if key not in rows:
            rows[key] = play(make_env(split, known), AGENTS[name], EPISODES)
        return rows[key]

    return row


@pytest.mark.long
def test_the_expert_knows_everything(measure: Measure) -> None:
    assert measure("expert").success >= 0.97
    everybody = play(make_env("test", "nothing", tuple(FAMILIES)), AGENTS["expert"])
    assert (everybody.success, everybody.cost) == (1.0, 0.0)


@pytest.mark.long
@pytest.mark.parametrize("known", ["bm25", "graph"])
def test_what_is_asked_is_found(measure: Measure, known: str) -> None:
    assert (measure("expert", known).hits or 0.0) > 0.9
    assert (measure("demonstrator", known).hits or 0.0) > 0.9


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_the_demonstrator_needs_what_the_desk_finds(measure: Measure, split: str) -> None:
    assert measure("demonstrator", "nothing", split).success <= 0.02
    for known in ("bm25", "graph"):
        assert 0.35 <= measure("demonstrator", known, split).success <= 0.65


@pytest.mark.long
def test_the_graph_agent_answers_from_what_the_graph_shows(measure: Measure) -> None:
    assert measure("knowledge-graph", "graph").success >= 0.9
    assert measure("knowledge-graph", "graph").cost <= 0.05
    assert (measure("knowledge-graph").success, measure("knowledge-graph").cost) == (0.0, 0.0)


@pytest.mark.long
def test_luck_and_words_alone_are_not_enough(measure: Measure) -> None:
    assert measure("random").success <= 0.05
    assert measure("Sprayer").success <= 0.10
    assert measure("PoliteRepeater").success <= 0.10
    for line in ("Class 3.", "The minimum is 100 euros.", "Its custodian bank is in Malta."):
        said = Constant(line)
        assert play(make_env("test", "nothing"), lambda seed, said=said: said).success <= 0.05


class Copier:
    """Reads aloud whatever the desk has found last."""

    def reply(self, conversation: Any, privileged: object) -> str:
        shown = [m.content for m in conversation if m.role == "tool"]
        return re.sub(r"^Found in sheet \d+: ", "", shown[-1]) if shown else "One moment, please."


def test_sheets_read_aloud_are_no_answers() -> None:
    assert play(make_env("test", "bm25"), lambda seed: Copier()).success <= 0.05


@pytest.mark.long
def test_the_page_tells_what_is_measured(measure: Measure) -> None:
    rows = [f"| `{name}` | {known} | {measure(name, known)} |" for name, known in ROWS]
    print("\n" + "\n".join(rows))
    missing = set(rows) - set(PAGE.read_text("utf-8").splitlines())
    assert not missing, f"expected these rows in {PAGE.name}: {sorted(missing)}"
