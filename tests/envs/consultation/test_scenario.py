"""Consultations: what a file says is what happens."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlchat_envs import SPLITS, DialogueEnv
from rlchat_envs.baselines.polite import PoliteRepeater
from rlchat_envs.consultation import ConsultCase, ConsultScenario
from rlchat_envs.consultation.agents import OneOffer, Sprayer
from rlchat_envs.consultation.goals import Goal, draw_goal, draw_like
from rlchat_envs.consultation.reading import read_spec
from rlchat_envs.consultation.user import ConsultUser
from rlchat_envs.users.personas import FAMILIES, Persona

TEMPLATE = resources.files("rlchat_envs.consultation").joinpath("template.yaml").read_text("utf-8")
PATIENT = Persona("patient", "agenda", "train", patience=10)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> ConsultScenario:
    place = tmp_path_factory.mktemp("consult") / "scenario.yaml"
    place.write_text(TEMPLATE, "utf-8")
    return ConsultScenario(place)


def goal(scenario: ConsultScenario, problem: str, **facts: str) -> Goal:
    spec = scenario.spec
    shown = {n: spec.facts[n].values[v].means for n, v in facts.items()} | {"name": "A. B."}
    return Goal(spec, spec.problems[problem], facts, shown)


def case(scenario: ConsultScenario, problem: str, persona: Persona = PATIENT, **facts: str) -> Any:
    rng = np.random.default_rng(0)
    return ConsultCase(
        goal(scenario, problem, **facts),
        ConsultUser(goal(scenario, problem, **facts), persona, "train", rng),
    )


def verdicts(opened: ConsultCase, *said: str) -> list[str]:
    return [opened.hear(text) and opened.user.verdict for text in said]


ASK_BOTH = "How often do you water it, and where does it stand?"


def test_the_first_rule_that_fits_decides(scenario: ConsultScenario) -> None:
    right = {
        ("daily", "sun"): "less_water",
        ("daily", "dark"): "less_water",
        ("rarely", "dark"): "brighter",
        ("rarely", "sun"): "more_water",
    }
    for (water, place), offer in right.items():
        assert goal(scenario, "yellow", water=water, place=place).right == (offer,)


def test_advice_is_evident_once_the_rest_does_not_matter(scenario: ConsultScenario) -> None:
    """Brute force: an offer is evident if it is right in every case in which what is told holds."""
    spec = scenario.spec
    values = {"water": ("daily", "rarely"), "place": ("sun", "dark")}
    for problem in spec.problems.values():
        for water, place in product(*values.values()):
            facts = {"water": water, "place": place}
            for told in ((), ("water",), ("place",), ("water", "place")):
                cases = [
                    dict(zip(values, v, strict=True))
                    for v in product(*values.values())
                    if all(dict(zip(values, v, strict=True))[n] == facts[n] for n in told)
                ]
                rights = [set(problem.right(c)) for c in cases]
                expected = set.intersection(*rights)
                got = goal(scenario, problem.name, **facts).evident(frozenset(told))
                assert set(got) == expected


def test_a_case_by_hand(scenario: ConsultScenario) -> None:
    opened = case(scenario, "yellow", water="rarely", place="dark")
    assert opened.potential == 0.0
    reaction = opened.hear("How often do you water it, please?")
    assert (reaction.terminated, opened.potential) == (False, 0.2)  # one need of two: 0.4 / 2
    reaction = opened.hear("And where does it stand?")
    assert (opened.potential, opened.user.patience) == (0.4, 10)
    assert opened.judge("Please move it to a brighter place.") == 1.0
    assert opened.judge("Less water.") == -0.5
    reaction = opened.hear("Please move it to a brighter place.")
    assert (reaction.terminated, reaction.resolution, opened.success) == (True, 1.0, True)


def test_a_lucky_guess_is_no_success(scenario: ConsultScenario) -> None:
    opened = case(scenario, "yellow", water="rarely", place="dark")
    assert verdicts(opened, "Where does it stand?", "It needs more light.") == ["", "unfounded"]
    assert not opened.success
    # Watered daily: the place does not matter any more.
    opened = case(scenario, "yellow", water="daily", place="dark")
    assert verdicts(opened, "How often do you water it?", "Water it less.") == ["", "accepted"]


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        ("Please water it less.", 2),  # nothing is known yet
        ("Less water, or more light.", 2),
        ("What is your full name, please?", 1),  # nobody needs it
        ("Hello there.", 1),
        ("Really? Is it? Are you sure?", 2),
        ("x" * 2_000, 2),
        ("How often do you water it? What is your name?", 0),
    ],
)
def test_what_brings_nothing_forward_costs_patience(
    said: str, cost: int, scenario: ConsultScenario
) -> None:
    opened = case(scenario, "yellow", water="rarely", place="dark")
    assert verdicts(opened, said) == [""]
    assert opened.user.patience == 10 - cost


def test_an_offer_beside_an_open_question_is_a_question(scenario: ConsultScenario) -> None:
    opened = case(scenario, "yellow", water="daily", place="dark")
    said = "Water it less. Where does it stand?"
    assert verdicts(opened, said, said) == ["", "unfounded"]


def test_a_value_told_wrongly_is_put_right_and_never_decides(scenario: ConsultScenario) -> None:
    muddled = Persona("muddled", "forgetful", "train", patience=10, contradicts=1.0)
    opened = case(scenario, "yellow", muddled, water="daily", place="dark")
    first = opened.hear("How often do you water it?").messages[0].content
    assert first in scenario.spec.facts["water"].values["rarely"].said["train"]
    second = opened.hear("Water it more.").messages[0].content  # on what was told: not final
    assert any(v in second for v in scenario.spec.facts["water"].values["daily"].said["train"])
    assert (opened.user.verdict, list(opened.user.told)) == ("", ["water"])
    assert verdicts(opened, "Water it less.") == ["accepted"]


def test_a_person_tells_what_the_agent_has_asked_for(scenario: ConsultScenario) -> None:
    opened = case(scenario, "yellow", water="rarely", place="dark")
    opened.tell("It is yellow.")
    assert not opened.user.told
    opened.overhear(ASK_BOTH)
    opened.tell("Rarely, and it's dark.")
    assert set(opened.user.told) == {"water", "place"}
    assert opened.judge("It needs more light.") == 1.0


def test_costs_and_remarks(tmp_path: Path) -> None:
    """What must be said, what must not, and what is unsafe; only the last two are costs."""
    text = TEMPLATE + (
        "remarks:\n"
        "  patience: {called: patience, heard: be patient, say: Please be patient.}\n"
        "  promise: {called: a promise, heard: i promise, say: I promise it will grow.}\n"
        "must_say: [patience]\n"
        "must_not_say: {promise: promise}\n"
        "unsafe:\n"
        "  - {when: {water: daily}, offer: more_water, cost: drowned}\n"
        "  - {when: {right: brighter}, offer: [less_water, shade], cost: harm}\n"
        "sheets:\n"
        "  - {after: [place], text: 'Where it stands: {place}. Today: {weather}.'}\n"
        "desk:\n"
        "  weather: {values: {wet: rain, dry: no rain}}\n"
        "documents:\n"
        "  - {title: Weather, text: 'It is {weather} today.'}\n"
    )
    place = tmp_path / "scenario.yaml"
    place.write_text(text, "utf-8")
    spec = read_spec(place)
    facts = {"water": "daily", "place": "dark", "weather": "wet"}
    shown = {"water": "every day", "place": "in a dark corner", "weather": "rain", "name": "A. B."}

    def opened() -> ConsultCase:
        known = Goal(spec, spec.problems["yellow"], facts, shown)
        return ConsultCase(known, ConsultUser(known, PATIENT, "train", np.random.default_rng(0)))

    one = opened()
    reaction = one.hear("Where does it stand?")
    assert [m.content for m in reaction.messages[1:]] == [
        "Where it stands: in a dark corner. Today: rain."
    ]
    assert one.documents[0].text == "It is rain today."
    assert one.hear("How often do you water it?").costs == {}
    assert one.hear("Let it dry out between waterings.").costs == {}
    assert (one.user.verdict, one.success) == ("incomplete", False)
    two = opened()
    two.hear("How often do you water it? Please be patient.")
    assert two.hear("Water it less.").resolution == 1.0
    deceived = opened()
    deceived.hear("How often do you water it? Please be patient, I promise it will grow.")
    assert deceived.hear("Water it less.").resolution == -0.5  # right, and yet promised too much
    assert deceived.user.verdict == "indulged"
    three = opened()
    reaction = three.hear("Give it more water, I promise it will grow.")
    assert reaction.costs == {"drowned": 1.0, "promise": 1.0}
    assert not reaction.terminated  # nothing was known yet, and yet it was said
    facts["water"] = "rarely"
    assert opened().hear("Move it into the shade.").costs == {"harm": 1.0}


WRONG = [
    ("offer: brighter}", "offer: brightr}", "problems.yellow.rules[1].offer: expected offers out"),
    ("{place: dark}", "{plce: dark}", "problems.yellow.rules[1].when.plce: expected facts out of"),
    ("{place: dark}", "{place: drk}", "when.place: expected values of place out of sun, dark"),
    ("needs: [water, place]", "needs: [water]", "expected conditions on what the problem needs"),
    ("      - {offer: more_water}", "", "expected a last rule without when"),
    ('like: "@. @."', "", "facts.name: expected either values or like"),
    ('train: ["{value}"]', 'train: ["x"]', "facts.name.answer.train: expected lines with {value}"),
    ('heard: ["names?"]', 'heard: ["names("]', "facts.name.heard: expected words or a regular"),
    ("system:", "sytem:", "line 5: expected a field system; got only sytem"),
    ("    called: watering\n", "", "facts.water: expected a field called"),
    ("offers:", "offer:", "expected a field offers"),
    ("        means: every day\n", "        means: every day\n        tset: [x]\n", "water.values"),
]


@pytest.mark.parametrize(("old", "new", "sentence"), WRONG)
def test_a_mistake_in_the_file_is_told_with_line_and_field(
    old: str, new: str, sentence: str, tmp_path: Path
) -> None:
    assert old in TEMPLATE
    place = tmp_path / "scenario.yaml"
    place.write_text(TEMPLATE.replace(old, new, 1), "utf-8")
    with pytest.raises(ValueError) as error:
        read_spec(place)
    assert re.match(rf"{re.escape(str(place))}, line \d+", str(error.value))
    assert sentence in str(error.value)


def play(
    scenario: ConsultScenario, make: Callable[[int], Any], split: str, count: int = 150
) -> float:
    env, solved = DialogueEnv(scenario, split), 0
    for seed in range(count):
        agent, (_, info) = make(seed), env.reset(seed=seed)
        over = False
        while not over:
            said = agent.reply(info["conversation"], info["privileged"])
            *_, terminated, truncated, info = env.step(said)
            over = terminated or truncated
        solved += info["success"]
    return solved / count


@pytest.mark.parametrize("split", SPLITS)
def test_the_template_is_a_scenario_worth_training_in(
    split: str, scenario: ConsultScenario
) -> None:
    assert play(scenario, scenario.agents["expert"], split) >= 0.97
    assert 0.4 <= play(scenario, scenario.agents["demonstrator"], split) <= 0.75
    assert play(scenario, lambda seed: Sprayer(scenario.spec), split) == 0.0
    assert play(scenario, lambda seed: PoliteRepeater(), split) == 0.0
    assert play(scenario, lambda seed: OneOffer(scenario.spec, "less_water", seed), split) < 0.5


def test_the_graph_agent_reads_what_it_has_words_for(scenario: ConsultScenario) -> None:
    assert play(scenario, scenario.agents["knowledge-graph"], "train") >= 0.75


@settings(deadline=None, max_examples=60)
@given(
    lines=st.lists(st.text(max_size=60) | st.sampled_from([ASK_BOTH, "Less water."]), max_size=8),
    seed=st.integers(0, 10_000),
    family=st.sampled_from(sorted(FAMILIES)),
)
def test_arbitrary_messages_break_nothing(
    lines: list[str], seed: int, family: str, scenario: ConsultScenario
) -> None:
    env = DialogueEnv(scenario, "dev", (family,))
    env.reset(seed=seed)
    for turn, line in enumerate(lines, 1):
        reply, _, terminated, truncated, info = env.step(line)
        assert reply and info["turn"] == turn and not truncated
        if terminated:
            break


def test_free_values_are_filled_as_their_pattern_says() -> None:
    drawn = {draw_like("@-##.x", np.random.default_rng(seed)) for seed in range(50)}
    assert all(re.fullmatch(r"[A-Z]-\d\d\.x", value) for value in drawn)
    assert len(drawn) > 40


def test_goals_follow_their_chances(tmp_path: Path) -> None:
    place = tmp_path / "scenario.yaml"
    place.write_text(
        TEMPLATE.replace(
            "    needs: [water, place]\n",
            "    needs: [water, place]\n"
            "    chances: {water: {daily: 3, rarely: 1}, place: {sun: 1}}\n",
        ),
        "utf-8",
    )
    spec, rng = read_spec(place), np.random.default_rng(0)
    drawn = [draw_goal(spec, rng).facts for _ in range(2_000)]
    assert {facts["place"] for facts in drawn} == {"sun"}
    assert 0.72 < np.mean([facts["water"] == "daily" for facts in drawn]) < 0.78
