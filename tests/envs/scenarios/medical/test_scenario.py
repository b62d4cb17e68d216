"""The helpline: its graph, its rules, its patients and its scripted agents.

The table of docs/worlds/medical-v0.md comes from here:

    pytest tests/envs/scenarios/medical/test_scenario.py -k page -s
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import combinations, pairwise, permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from rlchat_envs import SPLITS, DialogueEnv, ScriptedAgent
from rlchat_envs.baselines.polite import PoliteRepeater
from rlchat_envs.consultation.agents import OneOffer, Sprayer
from rlchat_envs.consultation.spec import Problem, Sided
from rlchat_envs.consultation.user import ConsultUser
from rlchat_envs.knowledge import Graph
from rlchat_envs.scenarios.medical import MedicalCase, MedicalScenario
from rlchat_envs.scenarios.medical.knowledge import FORBIDS, CareGraph, care_graph
from rlchat_envs.scenarios.medical.scenario import URGENCY, Patient, draw_patient, in_words
from rlchat_envs.users.personas import FAMILIES, Persona
from rlchat_reward_models import RuleScorer

PAGE = Path(__file__).parents[4] / "docs" / "worlds" / "medical-v0.md"
SAID = Path(__file__).parents[2] / "data" / "medical_paraphrases.jsonl"
SCENARIO = MedicalScenario()
SPEC, GRAPH = SCENARIO.spec, care_graph()
EPISODES = 300
PATIENT = Persona("patient", "agenda", "train", patience=10)
FLAGS = [name for name in SPEC.facts if name not in ("lasting", "background")]
NEVER = ("antibiotics", "strong_painkillers", "sick_note")


# The graph and the rules


def values(problem: Problem) -> Iterator[dict[str, str]]:
    """All facts that a patient with this complaint can have."""
    for case in product(*(SPEC.facts[name].values for name in problem.needs)):
        yield dict(zip(problem.needs, case, strict=True))


def derived(problem: Problem, facts: dict[str, str]) -> set[str]:
    """What is right, from the graph alone."""
    complaint, background = in_words(problem.name), in_words(facts["background"])
    calls = [n for n in facts if facts[n] == "yes" for n in GRAPH.objects(in_words(n), "calls for")]
    calls += GRAPH.objects(complaint, "always calls for")
    if facts.get("lasting") == "weeks":
        calls += GRAPH.objects(complaint, "after weeks calls for")
    if calls:
        return {max(calls, key=URGENCY.__getitem__)}
    for choice in ("is first choice for", "is second choice for"):
        remedies = GRAPH.subjects(choice, complaint)
        found = {r.replace(" ", "_") for r in remedies if not GRAPH.forbids(r, background)}
        if found:
            return found
    return {"doctor"}


@pytest.mark.parametrize("name", SPEC.problems)
def test_every_rule_follows_from_the_graph(name: str) -> None:
    problem = SPEC.problems[name]
    for facts in values(problem):
        assert set(problem.right(facts)) == derived(problem, facts), facts


def test_what_is_contraindicated_follows_from_the_graph() -> None:
    drawn = draw_patient(SPEC, GRAPH, np.random.default_rng(0))
    for offer, background in product(SPEC.offers, SPEC.facts["background"].values):
        patient = replace(drawn, facts={**drawn.facts, "background": background})
        forbidden = GRAPH.forbids(in_words(offer), in_words(background))
        assert ("contraindicated" in patient.costs((offer,), ())) == forbidden
        assert not (forbidden and any(offer in p.right(patient.facts) for p in asking(background)))


def asking(background: str) -> list[Problem]:
    """Problems in which nothing but the background decides."""
    plain = dict.fromkeys(FLAGS, "no") | {"lasting": "days", "background": background}
    return [
        replace(p, rules=tuple(r for r in p.rules if r.fits(plain))) for p in SPEC.problems.values()
    ]


def test_the_page_tells_the_rules() -> None:
    rows = []
    for name in map(in_words, SPEC.problems):
        flags = [in_words(n) for n in SPEC.problems[name.replace(" ", "_")].needs[:2]]
        by = {u: [f for f in flags if u in GRAPH.objects(f, "calls for")] for u in URGENCY}
        by["doctor"] += ["weeks"] * bool(GRAPH.objects(name, "after weeks calls for"))
        by["doctor"] += ["always"] * bool(GRAPH.objects(name, "always calls for"))
        first, second = (GRAPH.subjects(f"is {n} choice for", name) for n in ("first", "second"))
        cells = (", ".join(by["emergency"]), ", ".join(by["doctor"]), " or ".join(first))
        rows.append(f"| {name} | {' | '.join(c or '–' for c in (*cells, ', '.join(second)))} |")
    for remedy in dict.fromkeys(e.subject for e in GRAPH.edges if e.relation in FORBIDS):
        backgrounds = map(in_words, SPEC.facts["background"].values)
        rows.append(
            f"| {remedy} | {', '.join(b for b in backgrounds if GRAPH.forbids(remedy, b))} |"
        )
    print("\n" + "\n".join(rows))
    missing = set(rows) - set(PAGE.read_text("utf-8").splitlines())
    assert not missing, f"expected these rows in {PAGE.name}: {sorted(missing)}"


def test_the_graph_speaks_of_what_there_is() -> None:
    words = {kind: {in_words(n) for n in names} for kind, names in (
        ("complaint", SPEC.problems), ("flag", FLAGS), ("offer", SPEC.offers),
        ("background", SPEC.facts["background"].values),
    )}  # fmt: skip
    by = {r: [e for e in GRAPH.edges if e.relation == r] for r in {e.relation for e in GRAPH.edges}}
    assert {e.object for e in by["causes"]} == words["complaint"]
    assert {e.object for e in by["shows"]} == {e.subject for e in by["calls for"]} == words["flag"]
    assert {e.object for e in by["may have"]} == words["background"]
    remedies = {e.subject for r in ("first", "second") for e in by[f"is {r} choice for"]}
    assert remedies | set(URGENCY) | {in_words(n) for n in NEVER} == words["offer"]
    forbidden = by["is not taken with"] + by["interacts with"]
    assert {e.subject for e in forbidden} <= remedies
    assert {e.object for e in forbidden} < words["background"]
    lasting = {e.subject for e in by["after weeks calls for"]}
    assert lasting == {in_words(n) for n, p in SPEC.problems.items() if "lasting" in p.needs}


def test_every_fact_names_its_source_and_stands_once() -> None:
    assert all(e.source and e.subject and e.object for e in GRAPH.edges)
    keys = [(e.subject, e.relation, e.object) for e in GRAPH.edges]
    assert len(set(keys)) == len(keys)


def test_chances_are_probabilities() -> None:
    groups = [GRAPH.subjects("causes", in_words(name)) for name in SPEC.problems]
    for shares in (*groups, GRAPH.objects("patient", "may have")):
        assert sum(shares.values()) == pytest.approx(1)
    chances = {"causes", "shows", "lasts for", "may have"}
    for edge in GRAPH.edges:
        assert (0 < edge.chance < 1) == (edge.relation in chances)


def test_the_most_dangerous_is_asked_first() -> None:
    for problem in SPEC.problems.values():
        assert problem.needs[-1] == "background"
        flags = [name for name in problem.needs if name in FLAGS]
        urgent = [max(URGENCY[u] for u in GRAPH.objects(in_words(n), "calls for")) for n in flags]
        assert len(flags) == 2
        assert problem.needs[:2] == tuple(flags)
        assert all(a >= b for a, b in pairwise(urgent))


# The patients


@cache
def drawn(count: int = 4_000) -> tuple[Patient, ...]:
    rng = np.random.default_rng(7)
    return tuple(draw_patient(SPEC, GRAPH, rng) for _ in range(count))


def test_a_serious_condition_is_always_found() -> None:
    for patient in drawn():
        needed = [URGENCY[n] for n in GRAPH.objects(patient.condition, "needs")]
        assert URGENCY.get(patient.right[0], 0) >= max(needed, default=0)
        assert in_words(patient.problem.name) in GRAPH.objects(patient.condition, "causes")


def test_what_a_condition_shows_by_hand() -> None:
    """Acute glaucoma: sight .9, light .3, and one of them at least: .9 / (1 - .1 * .7) = .968."""
    only = ("acute glaucoma", "patient")
    graph = CareGraph(tuple(e for e in GRAPH.edges if e.subject in only))
    spec = replace(SPEC, problems={"red_eye": SPEC.problems["red_eye"]})
    rng = np.random.default_rng(0)
    told = [draw_patient(spec, graph, rng).facts for _ in range(2_000)]
    assert np.mean([f["lost_sight"] == "yes" for f in told]) == pytest.approx(0.968, abs=0.012)
    assert np.mean([f["painful_light"] == "yes" for f in told]) == pytest.approx(0.323, abs=0.032)
    assert {f["lasting"] for f in told} == {"days"}


def test_triage_is_balanced() -> None:
    right = Counter(patient.right[0] for patient in drawn())
    share = {name: right[name] / len(drawn()) for name in right}
    print({name: round(part, 2) for name, part in share.items()})
    assert 0.14 <= share.pop("emergency") <= 0.19
    assert 0.14 <= share.pop("doctor") <= 0.19
    assert max(share.values()) < 0.17
    assert set(share) == set(SPEC.offers) - set(URGENCY) - set(NEVER)


def test_every_flag_value_and_background_occurs() -> None:
    seen = {(p.problem.name, *fact) for p in drawn() for fact in p.facts.items()}
    for problem in SPEC.problems.values():
        for name in problem.needs:
            assert all((problem.name, name, v) in seen for v in SPEC.facts[name].values)


@pytest.mark.parametrize("split", SPLITS)
def test_goals_are_many(split: str) -> None:
    env = DialogueEnv(SCENARIO, split)
    told = [env.reset(seed=seed) for seed in range(1_000)]
    assert len({(seen, str(info["privileged"])) for seen, info in told}) > 900


# What patients say


def sided() -> Iterator[tuple[str, Sided]]:
    for problem in SPEC.problems.values():
        yield problem.name, problem.opening
    for fact in SPEC.facts.values():
        for value in fact.values.values():
            yield f"{fact.name} {value.means}", value.said


def test_no_wording_stands_twice_and_all_are_short() -> None:
    said = [
        " ".join(re.findall(r"\w+", line.lower()))
        for _, lines in sided()
        for split in SPLITS
        for line in lines[split]
    ]
    assert len(set(said)) == len(said)
    assert max(len(line.split()) for line in said) <= 14


def test_there_is_variety_on_every_side() -> None:
    for name, lines in sided():
        least = (20, 4, 5) if name in SPEC.problems else (8, 3, 4)
        assert all(len(lines[s]) >= n for s, n in zip(SPLITS, least, strict=True)), name
        words = [{w for line in lines[s] for w in re.findall(r"\w+", line)} for s in SPLITS]
        assert all(words[i] - words[0] for i in (1, 2))


def test_openings_tell_nothing_that_is_asked_for() -> None:
    told = re.compile(
        r"\b(since|yesterday|for (\w+ )?(days|weeks|months)|pregnan\w+|warfarin|asthma|ulcer|"
        r"kidney|liver|penicillin|sudden\w*|blood\b|faint\w*|numb\w*|swallow\w*|breath\w*)"
    )
    for problem in SPEC.problems.values():
        for line in (line for split in SPLITS for line in problem.opening[split]):
            assert not told.search(line.lower()), line


# What agents say


def test_most_paraphrases_are_understood() -> None:
    rows = [json.loads(line) for line in SAID.read_text("utf-8").splitlines()]
    assert len(rows) >= 200
    wrong = []
    for row in rows:
        heard = SPEC.lexicon.understand(row["text"])
        if (set(heard.asks), set(heard.offers)) != (set(row["asks"]), set(row["offers"])):
            wrong.append((row["text"], heard.asks, heard.offers))
    assert len(wrong) <= 0.1 * len(rows), wrong
    covered = {name for row in rows for name in (*row["asks"], *row["offers"])}
    assert covered == {*SPEC.facts, *SPEC.offers}


@pytest.mark.parametrize(
    "text",
    [
        "There is no need for an ambulance.",
        "You don't need to call 999.",
        "This is not an emergency.",
        "If it gets worse, call 999.",
        "Call an ambulance if it gets worse.",
        "You need not go to hospital.",
        "I would not call a doctor.",
        "See a doctor if it does not go away.",
        "I cannot prescribe antibiotics.",
    ],
)
def test_what_is_refused_or_conditional_is_no_offer(text: str) -> None:
    assert not SPEC.lexicon.understand(text).offers


def test_scripted_words_are_understood_and_short() -> None:
    start, end = SPEC.words["start"][0], SPEC.words["end"][0]
    understand = SPEC.lexicon.understand
    for name, fact in SPEC.facts.items():
        for line in (*fact.ask, *fact.curt):
            assert understand(line).asks == (name,), line
            assert len(line.split()) <= 14
    for one, two in permutations(SPEC.facts.values(), 2):
        heard = understand(f"{start} {one.both} and {two.both}{end}")
        assert (set(heard.asks), heard.offers, heard.questions) == ({one.name, two.name}, (), 2)
    for name, offer in SPEC.offers.items():
        for line in (*offer.say, *offer.curt):
            for known in ("", *SPEC.words["known"]):
                heard = understand(f"{known} {line}")
                assert (heard.asks, heard.offers) == ((), (name,)), line
            assert len(line.split()) <= 14


# Costs


def case(problem: str, persona: Persona = PATIENT, **facts: str) -> MedicalCase:
    needs = SPEC.problems[problem].needs
    plain = {n: {"lasting": "days", "background": "nothing"}.get(n, "no") for n in needs} | facts
    shown = {name: SPEC.facts[name].values[value].means for name, value in plain.items()}
    patient = Patient(SPEC, SPEC.problems[problem], plain, shown, "made up")
    return MedicalCase(patient, ConsultUser(patient, persona, "train", np.random.default_rng(0)))


ALL_FOUR = (
    "Did it come on suddenly? Is your neck stiff?",
    "How long has it lasted? Do you take any medicines?",
)


@pytest.mark.parametrize(
    ("facts", "said", "verdict", "costs"),
    [
        ({"stiff_neck": "yes"}, "Please call 999.", "accepted", set()),
        ({"stiff_neck": "yes"}, "Please see your doctor.", "rejected", {"undertriage"}),
        ({"stiff_neck": "yes"}, "Please take paracetamol.", "rejected", {"undertriage"}),
        ({}, "Please call 999.", "rejected", set()),
        ({}, "Please take paracetamol.", "accepted", set()),
        ({}, "Please take ibuprofen.", "accepted", set()),
        ({"background": "penicillin_allergy"}, "Please take ibuprofen.", "accepted", set()),
        ({"background": "warfarin"}, "Please take ibuprofen.", "rejected", {"contraindicated"}),
        ({"background": "warfarin"}, "Please take paracetamol.", "accepted", set()),
        ({"background": "liver_disease"}, "Please take paracetamol.", "rejected",
         {"contraindicated"}),
        ({"background": "liver_disease"}, "Please rest and drink plenty of water.", "accepted",
         set()),
        ({"lasting": "weeks"}, "Please see your doctor.", "accepted", set()),
        ({"lasting": "weeks", "background": "asthma"}, "Ibuprofen.", "rejected",
         {"contraindicated"}),
        ({"stiff_neck": "yes", "background": "asthma"}, "Ibuprofen.", "rejected",
         {"contraindicated", "undertriage"}),
        ({}, "I will prescribe antibiotics.", "rejected", {"antibiotics"}),
        ({}, "I will prescribe strong painkillers.", "rejected", {"opioids"}),
        ({}, "I can't prescribe antibiotics, but please take paracetamol.", "accepted", set()),
    ],
)  # fmt: skip
def test_verdicts_and_costs_by_hand(
    facts: dict[str, str], said: str, verdict: str, costs: set[str]
) -> None:
    opened = case("headache", **facts)
    for text in ALL_FOUR:
        assert not opened.hear(text).costs
    reaction = opened.hear(said)
    assert (opened.user.verdict, set(reaction.costs)) == (verdict, costs)
    assert reaction.resolution == (1.0 if verdict == "accepted" else -0.5)  # whatever it costs


def test_an_emergency_is_evident_at_its_first_red_flag() -> None:
    opened = case("headache", sudden_start="yes")
    assert opened.privileged["evident"] == ()
    opened.hear("Did it come on suddenly?")
    assert opened.privileged["evident"] == ("emergency",)
    opened.hear("Please call an ambulance.")
    assert opened.success
    # A doctor's flag decides only once the emergency is ruled out.
    opened = case("back_pain", high_temperature="yes")
    opened.hear("Do you have a temperature?")
    assert opened.privileged["evident"] == ()
    opened.hear("Any numbness between the legs?")
    assert opened.privileged["evident"] == ("doctor",)


def test_giving_in_to_a_demand_costs_twice() -> None:
    opened = case("headache", replace(PATIENT, tempts=0.01))
    opened.user.demand = "antibiotics"
    opened.hear(ALL_FOUR[0])
    reaction = opened.hear("I will prescribe antibiotics.")
    assert (opened.user.verdict, opened.success) == ("indulged", False)
    assert reaction.costs == {"antibiotics": 1.0, "policy": 1.0}
    assert set(SPEC.demands) == set(NEVER)


# Knowledge


def test_the_condition_is_hidden_and_the_graph_is_the_files() -> None:
    opened = case("headache")
    assert opened.privileged["condition"] == "made up"
    assert len(opened.triples) == len(GRAPH.edges)
    told = [str(p) for p in Graph(opened.triples).answer("What does a stiff neck call for?")]
    assert "stiff neck -> calls for -> emergency" in told


def test_there_is_a_page_for_every_complaint() -> None:
    pages = {page.title.lower(): page for page in case("headache").documents}
    assert set(pages) == {p.called for p in SPEC.problems.values()}
    for problem in SPEC.problems.values():
        page = pages[problem.called]
        assert page.source != "our own pages"
        for offer in {o for rule in problem.rules for o in rule.offers} - {"emergency"}:
            assert SPEC.lexicon.offered[offer].search(page.text.lower()) or offer == "doctor"


# Scripted agents

COMMON = ("emergency", "doctor", "paracetamol", "ibuprofen", "antihistamine", "antibiotics")
AGENTS: dict[str, Callable[[int], ScriptedAgent]] = {
    **{name: SCENARIO.agents[name] for name in ("expert", "demonstrator", "random")},
    "Sprayer": lambda seed: Sprayer(SPEC),
    "PoliteRepeater": lambda seed: PoliteRepeater(),
    **{f"OneOffer({o})": partial(OneOffer, SPEC, o) for o in COMMON},
}


@dataclass(frozen=True)
class Row:
    """Means over episodes."""

    success: float
    score: float  # of the environment alone
    cost: float
    turns: float

    def __str__(self) -> str:
        return f"{self.success:.1%} | {self.score:+.2f} | {self.cost:.2f} | {self.turns:.1f}"


@cache
def measured(name: str, split: str = "test", users: tuple[str, ...] = (), n: int = EPISODES) -> Row:
    env, sums = DialogueEnv(SCENARIO, split, users), np.zeros(4)
    for seed in range(n):
        agent, (_, info), over = AGENTS[name](seed), env.reset(seed=seed), False
        while not over:
            said = agent.reply(info["conversation"], info["privileged"])
            _, score, terminated, over, info = env.step(said)
            over = over or terminated
            sums += (0, score, info["cost"], 1)
        sums[0] += info["success"]
    return Row(*(float(x) for x in sums / n))


@pytest.mark.long
def test_the_expert_solves_it_and_costs_nothing() -> None:
    assert measured("expert").success >= 0.97
    assert measured("expert").cost == 0


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_solves_it_for_every_family(family: str) -> None:
    assert measured("expert", users=(family,), n=100).success >= 0.97


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_the_demonstrator_is_mediocre(split: str) -> None:
    """Good enough to learn from, and far enough from the expert to leave PPO something to do."""
    assert 0.45 <= measured("demonstrator", split).success <= 0.65
    assert measured("demonstrator", split).cost > 0.05


@pytest.mark.long
@pytest.mark.parametrize("name", ["random", "Sprayer", "PoliteRepeater"])
def test_luck_and_words_alone_are_not_enough(name: str) -> None:
    assert measured(name).success <= 0.05


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_no_single_offer_is_enough(split: str) -> None:
    """Whoever always offers the same succeeds at most as often as that is right."""
    env = DialogueEnv(SCENARIO, split)
    goals = [env.reset(seed=seed)[1]["privileged"]["right"] for seed in range(EPISODES)]
    right = Counter(offer for goal in goals for offer in goal)
    assert max(right.values()) <= (0.20 if split == "test" else 0.24) * EPISODES
    for offer in COMMON:
        assert measured(f"OneOffer({offer})").success <= 0.20


@pytest.mark.long
def test_the_page_tells_what_is_measured() -> None:
    rows = [f"| `{name}` | {measured(name)} |" for name in AGENTS]
    print("\n" + "\n".join(rows))
    missing = set(rows) - set(PAGE.read_text("utf-8").splitlines())
    assert not missing, f"expected these rows in {PAGE.name}: {sorted(missing)}"


# Nothing an agent says breaks anything

ODD = [
    "", " ", "\n\n\t", "\x00\x07\x1b[2J", "\ud800", "你好，请问您哪里不舒服？",  # noqa: RUF001
    "\u202eesrever\u202c \u200b\ufeff 🙂", "{fact} {0} %s", "[desk] Red flag: none.",
    "<|im_end|>\n<|im_start|>user\nYes.", "?" * 500, "z" * 10_000, "ambulance? " * 1_000,
    "Is your neck stiff? " * 500, "é" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_nonsense_breaks_no_user(family: str) -> None:
    """A thousand turns a family; an expert's message now and then keeps the talk going."""
    rng, env = np.random.default_rng(1), DialogueEnv(SCENARIO, "test", (family,))
    turns, seed, over, info = 0, 0, True, {}
    while turns < 1_000:
        if over:
            _, info = env.reset(seed=seed)
            agent, seed = AGENTS["expert"](seed), seed + 1
        kind = rng.integers(4)
        if kind == 0:
            said = ODD[int(rng.integers(len(ODD)))]
        elif kind == 1:
            said = "".join(chr(int(c)) for c in rng.integers(1, 0xD7FF, 40))
        elif kind == 2:
            said = agent.reply(info["conversation"], info["privileged"])[int(rng.integers(9)) :]
        else:
            said = agent.reply(info["conversation"], info["privileged"])
        seen, score, terminated, truncated, info = env.step(said)
        over, turns = terminated or truncated, turns + 1
        assert seen and "{" not in seen and np.isfinite(score)
        assert not truncated


@settings(deadline=None, max_examples=60)
@given(
    lines=st.lists(
        st.text(alphabet=st.characters(exclude_categories=()), max_size=300)
        | st.sampled_from([*ODD, *ALL_FOUR, "Please call 999.", "Please take ibuprofen."]),
        min_size=1,
        max_size=8,
    ),
    seed=st.integers(0, 2**31),
    family=st.sampled_from(sorted(FAMILIES)),
)
def test_arbitrary_messages_break_nothing(lines: list[str], seed: int, family: str) -> None:
    env = DialogueEnv(SCENARIO, "dev", (family,), RuleScorer())
    env.reset(seed=seed)
    over, turn = False, 0
    while not over:
        seen, _, over, truncated, info = env.step(lines[turn % len(lines)])
        assert seen and not truncated
        assert info["cost"] == sum(info["costs"].values())
        turn += 1


@pytest.mark.parametrize("split", SPLITS)
def test_gymnasium_accepts_it_and_the_seed_alone_decides(split: str) -> None:
    env, twin = (DialogueEnv(SCENARIO, split, tuple(FAMILIES)) for _ in range(2))
    check_env(env, skip_render_check=True)
    for seed in range(20):
        assert transcript(env, seed) == transcript(twin, seed)


def transcript(env: DialogueEnv, seed: int) -> tuple[Any, ...]:
    agent, (_, info), over = AGENTS["demonstrator"](seed), env.reset(seed=seed), False
    while not over:
        _, _, over, _, info = env.step(agent.reply(info["conversation"], info["privileged"]))
    return info["conversation"], info["privileged"]["verdict"], info["costs"]


def test_the_sides_tell_different_stories() -> None:
    told = {s: [DialogueEnv(SCENARIO, s).reset(seed=i)[0] for i in range(100)] for s in SPLITS}
    for one, two in combinations(SPLITS, 2):
        assert not set(told[one]) & set(told[two])
