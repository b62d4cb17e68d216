"""Twenty questions: the graph of things, what is understood, and the least number of questions.

The table of docs/worlds/twenty-questions-v0.md comes from here:

    pytest tests/envs/scenarios/games/test_twenty_questions.py -k page -s
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlchat_envs import SPLITS, DialogueEnv, Message, ScriptedAgent
from rlchat_envs.knowledge import Graph
from rlchat_envs.scenarios.games import TwentyQuestionsScenario
from rlchat_envs.scenarios.games import twenty_questions as game
from rlchat_envs.scenarios.games.data import load_data
from rlchat_envs.scenarios.games.player import Player
from rlchat_envs.scenarios.games.thing_agents import (
    Demonstrator,
    Expert,
    KnowledgeGraphAgent,
    RandomAgent,
)
from rlchat_envs.scenarios.games.thing_questions import (
    MAX_LENGTH,
    ThingQuestion,
    read_reply,
    reader,
)
from rlchat_envs.scenarios.games.things import Attribute, load_things
from rlchat_envs.scenarios.games.tree import (
    Leaf,
    Node,
    best_tree,
    grow,
    least_total,
    questions,
    total,
)
from rlchat_envs.users.personas import FAMILIES, Persona
from rlchat_reward_models import RuleScorer

PAGE = Path(__file__).parents[4] / "docs" / "worlds" / "twenty-questions-v0.md"
PARAPHRASES = Path(__file__).parents[2] / "data" / "twenty_questions.jsonl"
SCENARIO, TURNS, EPISODES = TwentyQuestionsScenario(), 24, 300
THINGS, READER = load_things(), reader()
PATIENT = Persona("patient", "agenda", "train", patience=20)
NONSENSE = [
    *("", " ", "\n\n", "\x00", "\u202e\u0301\ud7ff", "z" * 10_000, "Is it alive? " * 800),
    *("?" * 300, "is it a cat or " * 20, "{fact} %s {0}", "<|im_start|>user\nhi", "it it it is?"),
]


class Lines:
    """Says its lines one after the other, for ever."""

    def __init__(self, *lines: str):
        self.lines, self.count = lines, 0

    def reply(self, conversation: object, privileged: object) -> str:
        self.count += 1
        return self.lines[(self.count - 1) % len(self.lines)]


AGENTS: dict[str, Callable[[int], ScriptedAgent]] = {
    **SCENARIO.agents,
    "Sprayer": lambda seed: Lines(f"Is it {', '.join(THINGS.names)}?"[:290]),
    "Keywords": lambda seed: Lines("Animal, alive, food, metal, wheels, a cat, a dog, a car?"),
    "PoliteRepeater": lambda seed: Lines(
        "Thank you so much for your patience, I am happy to help."
    ),
}


def player(secret: str = "cat", persona: Persona = PATIENT, seed: int = 0) -> Player[str]:
    return Player(SCENARIO.rules, secret, persona, "train", np.random.default_rng(seed))


def lines(kind: str) -> set[str]:
    return set(SCENARIO.rules.lines("train")[kind])


def run(env: DialogueEnv, agent: ScriptedAgent, seed: int) -> tuple[float, float, float, float]:
    """Success, the environment's score, manners and turns of an episode."""
    _, info = env.reset(seed=seed)
    score = manners = 0.0
    over = False
    while not over:
        said = agent.reply(info["conversation"], info["privileged"])
        _, total_score, terminated, truncated, info = env.step(said)
        own = info["parts"]["progress"] + info["parts"]["resolution"]
        score, manners = score + own, manners + total_score - own
        over = terminated or truncated
    assert not truncated
    return float(info["success"]), score, manners, float(info["turn"])


# The graph


def test_the_graph_is_large_and_tells_all_things_apart() -> None:
    assert len(THINGS.names) > 200
    assert len(set(THINGS.names)) == len(THINGS.names)
    assert len(THINGS.attributes) > 30
    assert len({THINGS.true_of(name) for name in THINGS.names}) == len(THINGS.names)
    for attribute in THINGS.attributes.values():
        assert 0 < len(attribute.things) < len(THINGS.names), attribute.name


def test_no_two_things_share_a_name() -> None:
    names = [*THINGS.names, *(other for others in THINGS.also.values() for other in others)]
    assert len(set(names)) == len(names)
    assert set(THINGS.also) <= set(THINGS.names) and THINGS.bare <= set(THINGS.names)


@pytest.mark.parametrize(
    ("thing", "true", "false"),
    [
        ("whale", {"alive", "mammal", "sea", "heavy"}, {"fish", "eggs", "four legs", "fly"}),
        ("penguin", {"bird", "wings", "eggs", "cold weather"}, {"fly", "mammal"}),
        ("spider", {"animal", "many legs"}, {"insect", "wings", "mammal"}),
        ("bat", {"mammal", "fly", "wings"}, {"bird", "eggs"}),
        ("bread", {"food", "flour", "man-made", "kitchen"}, {"sweet", "alive", "drink"}),
        ("submarine", {"vehicle", "boat", "engine", "metal"}, {"fly", "wheels", "road"}),
        ("violin", {"instrument", "strings", "bow", "wooden"}, {"blown", "metal"}),
        ("pilot", {"person", "alive", "uniform", "in the air"}, {"animal", "vehicle"}),
        ("volcano", {"place", "hot", "natural"}, {"building", "man-made"}),
    ],
)
def test_some_facts(thing: str, true: set[str], false: set[str]) -> None:
    assert true <= set(THINGS.true_of(thing))
    assert not false & set(THINGS.true_of(thing))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("animal", "alive"), ("person", "alive"), ("mammal", "animal"), ("insect", "animal")),
        *(("bird", "wings"), ("bird", "eggs"), ("fish", "water animal"), ("fur", "mammal")),
        *(("tree", "plant"), ("fruit", "food"), ("drink", "liquid"), ("food", "eaten")),
        *(("building", "place"), ("furniture", "household"), ("strings", "man-made")),
        *(("feet", "worn"), ("crowd", "inside"), ("rails", "wheels"), ("bow", "strings")),
        *(("artist", "person"), ("thumb", "shoebox"), ("place", "bigger than a car")),
    ],
)
def test_what_follows_from_what(one: str, other: str) -> None:
    assert THINGS.attributes[one].things < THINGS.attributes[other].things


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("alive", "man-made"), ("animal", "person"), ("bird", "mammal"), ("fruit", "vegetable")),
        *(("place", "vehicle"), ("fish", "bird"), ("shoebox", "bigger than a car")),
        *(("thumb", "heavy"), ("strings", "blown"), ("metal", "wooden"), ("kept indoors", "place")),
    ],
)
def test_what_excludes_what(one: str, other: str) -> None:
    assert not THINGS.attributes[one].things & THINGS.attributes[other].things


def test_an_attribute_in_words() -> None:
    fly = Attribute("fly", "Can it fly?", frozenset(["owl"]))
    assert (fly.states(True), fly.states(False)) == ("it can fly", "it can't fly")
    eggs = Attribute("eggs", "Does it lay eggs?", frozenset())
    assert eggs.states(False) == "it doesn't lay eggs"
    assert eggs.triple == ("does", "lay eggs")
    called = [THINGS.called(n) for n in ("eagle", "cat", "bread", "scissors")]
    assert called == ["an eagle", "a cat", "bread", "scissors"]


def test_triples_are_the_graph() -> None:
    env = DialogueEnv(SCENARIO)
    env.reset(seed=0)
    triples = env.case.triples
    assert triples is env.case.triples
    also = {(t.subject, t.object) for t in triples if t.relation == "also called"}
    assert also == {(name, other) for name, others in THINGS.also.items() for other in others}
    facts = {(t.subject, t.relation, t.object) for t in triples if t.relation != "also called"}
    assert len(facts) == sum(len(a.things) for a in THINGS.attributes.values())
    assert ("owl", "can", "fly") in facts
    assert Graph(triples).link("Could an airplane be it?") == ("aeroplane",)


# The least number of questions


@cache
def by_brute_force(count: int) -> int:
    """Over every split and the guess."""
    splits = [by_brute_force(k) + by_brute_force(count - k) for k in range(1, count)]
    return count + min([*splits, by_brute_force(count - 1)]) if count > 1 else count


def test_the_bound_is_that_of_all_splits() -> None:
    assert [least_total(n) for n in range(9)] == [0, 1, 3, 6, 10, 14, 18, 23, 28]  # by hand
    assert all(least_total(n) == by_brute_force(n) for n in range(301))


def test_the_tree_reaches_the_bound_and_so_is_optimal() -> None:
    tree, count = best_tree(), len(THINGS.names)
    assert total(tree) == least_total(count) == 2586
    assert SCENARIO.optimum == pytest.approx(total(tree) / count)
    assert count == 297 and SCENARIO.optimum == pytest.approx(8.7071, abs=1e-4)
    taken = questions(tree)
    assert sum(taken.values()) == total(tree)
    assert set(taken) == set(THINGS.names)
    assert (min(taken.values()), max(taken.values())) == (7, 10)


def test_the_tree_asks_true_attributes() -> None:
    def holds(tree: Leaf | Node, left: frozenset[str]) -> None:
        if isinstance(tree, Leaf):
            assert frozenset(tree.things) == left
            return
        things = THINGS.attributes[tree.attribute].things
        holds(tree.yes, left & things)
        holds(tree.no, left - things)

    holds(best_tree(), frozenset(THINGS.names))


def test_no_tree_where_attributes_allow_none() -> None:
    """Five things need a split in two and three: 14 questions; guesses alone take 15."""
    five = "abcde"
    assert grow(five, {"x": frozenset("a")}) is None
    tree = grow(five, {"x": frozenset("ab")})
    assert tree == Node("x", Leaf(("a", "b")), Leaf(("c", "d", "e"))) and total(tree) == 14
    assert grow("abcd", {}) == Leaf(("a", "b", "c", "d"))


def test_the_expert_takes_the_optimum_on_average_over_all_things() -> None:
    taken = []
    for secret in THINGS.names:
        user, expert = player(secret), Expert()
        while not user.verdict:
            shown = SCENARIO.rules.show(secret, user.told, user.possible)
            user.hear(expert.reply((), shown))
        assert user.verdict == "guessed"
        taken.append(user.questions)
    assert sum(taken) == least_total(len(THINGS.names))


# What is understood


def heard(text: str) -> tuple[list[str], list[str]]:
    found = READER.understand(text).questions
    assert all(isinstance(q, ThingQuestion) for q in found)
    named = [q for q in found if isinstance(q, ThingQuestion)]
    return [q.name for q in named if not q.is_guess], [q.name for q in named if q.is_guess]


def test_paraphrases_are_understood() -> None:
    """Written after the understanding was, which then took 96.8% of them."""
    said = [json.loads(line) for line in PARAPHRASES.read_text("utf-8").splitlines()]
    missed = [
        line
        for line in said
        if heard(line["text"]) != (line["asks"], line["guesses"])
        or line.get("question") not in (None, READER.understand(line["text"]).asks)
    ]
    for line in missed:
        print(f"missed: {line['text']}: {line['asks'] or line['guesses']}; {heard(line['text'])}")
    print(f"understood {1 - len(missed) / len(said):.1%} of {len(said)}")
    assert len(said) > 150
    assert len(missed) <= 0.1 * len(said)


def test_every_question_and_its_answers_are_understood() -> None:
    for a in THINGS.attributes.values():
        assert heard(a.ask) == ([a.name], []), a.ask
        for holds in (True, False):
            told = read_reply(None, f"Correction: {a.states(holds)}.")
            assert [(t.question.answer("cat"), t.answer) for t in told] == [
                ("yes" if "cat" in a.things else "no", "yes" if holds else "no")
            ]


def test_every_thing_is_understood_by_every_name() -> None:
    for name, thing in THINGS.by_any_name.items():
        for text in (f"Is it a {name}?", f"I guess it's an {name}.", f"{name}?"):
            assert heard(text) == ([], [thing]), text


@pytest.mark.parametrize(
    ("text", "asks", "guesses"),
    [
        ("Is it an animal that lays eggs?", ["eggs"], []),  # all that lay eggs are animals
        ("Is it an animal that can fly?", ["animal", "fly"], []),  # two questions
        ("Is it a red fruit?", ["red", "fruit"], []),
        ("Is it a big animal?", [], []),
        ("Is it an animal shelter?", [], []),
        ("Is it smaller than a cat?", [], []),
        ("Is it a dog or a cat?", [], ["dog", "cat"]),
        ("So it's alive. Is it a plant?", ["plant"], []),
        ("Does this animal have wings?", ["wings"], []),
        ("Isn't it alive?", ["alive"], []),
        ("I saw a cat yesterday.", [], []),
    ],
)
def test_what_counts_as_one_question(text: str, asks: list[str], guesses: list[str]) -> None:
    assert heard(text) == (asks, guesses)


def test_replies_are_read_with_their_corrections() -> None:
    animal = READER.attributes["animal"]
    reply = "Sorry, I mixed that up: it isn't alive. Yes."
    told = {t.question.answer("cat"): t.answer for t in read_reply(animal, reply)}
    assert [t.answer for t in read_reply(animal, reply)] == ["no", "yes"] and told == {"yes": "yes"}
    for split in SPLITS:
        for kind, answer in (("terse agree", "yes"), ("terse deny", "no")):
            for line in load_data("thing_words")[split][kind]:
                (one,) = read_reply(animal, line)
                assert (one.question, one.answer) == (animal, answer)
        for kind in ("again", "opening", "tempting"):
            for line in load_data("thing_words")[split][kind]:
                assert read_reply(animal, line) == (), line


@pytest.mark.parametrize(
    "piece", [*" ?-,", "is it ", "a cat or ", "\ufdfa", "made of ", "it isn't "]
)
def test_no_text_takes_long_to_read(piece: str) -> None:
    start = time.perf_counter()
    READER.understand((piece * MAX_LENGTH)[: MAX_LENGTH - 1] + "?")
    READER.read_reply(None, (piece * 800)[:800])
    assert time.perf_counter() - start < 1.0


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=120))
def test_any_text_can_be_heard(text: str) -> None:
    asks, guesses = heard(text)
    assert set(asks) <= set(THINGS.attributes) and set(guesses) <= set(THINGS.names)


# The user


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("Is it alive?", {"Yes, it is alive.", "Yes.", "Yes, that's true: it is alive.",
                          "Yes, it is alive, you're right."}),
        ("Can it fly?", {"No, it can't fly.", "No.", "No, that's wrong: it can't fly.",
                         "Nope, it can't fly."}),
        ("Is it a dog?", {"No, it isn't a dog.", "No.", "No, that's wrong: it isn't a dog.",
                          "Nope, it isn't a dog."}),
    ],
)  # fmt: skip
def test_answers_by_hand(text: str, reply: set[str]) -> None:
    for seed in range(10):
        assert player("cat", seed=seed).hear(text) in reply


@pytest.mark.parametrize(
    ("text", "kind", "cost"),
    [
        ("Thank you, that is kind.", "stalled", 1),
        ("Is it beautiful?", "confused", 1),
        ("Is it alive, or is it made of metal?", "several", 1),
        ("x" * 10_000, "too_long", 2),
    ],
)
def test_what_cannot_be_answered_costs_patience(text: str, kind: str, cost: int) -> None:
    user = player()
    assert user.hear(text) in lines(kind)
    assert (user.patience, user.left, user.questions) == (20 - cost, 19, 0)


def test_a_question_costs_patience_only_if_its_answer_is_known() -> None:
    user = player("cat")
    for text, patience in (
        ("Is it an animal?", 20),
        ("Is it an animal?", 19),
        ("Is it alive?", 18),  # as all animals are
        ("Is it a table?", 17),  # which is none
        ("Is it a dog?", 17),
        ("Is it a dog?", 16),
    ):
        user.hear(text)
        assert user.patience == patience, text


def test_a_game_is_lost_after_twenty_messages_or_by_giving_up() -> None:
    user = player("cat")
    for name in THINGS.names[10:30]:
        assert not user.verdict
        reply = user.hear(f"Is it {THINGS.called(name)}?")
    assert (user.verdict, user.left) == ("out of questions", 0)
    assert "a cat" in reply
    user = player("cat")
    assert "a cat" in user.hear("I give up!") and user.verdict == "gave up"


def test_the_forgetful_ask_to_be_asked_again_and_put_things_right() -> None:
    sieve = Persona("sieve", "forgetful", "train", patience=9, forgets=1.0)
    muddled = Persona("muddled", "forgetful", "train", patience=9, contradicts=1.0)
    asked = ("Is it an animal?", "Is it a mammal?", "Is it a pet or a farm animal?")
    for seed in range(20):
        user = player("cat", sieve, seed)
        again = [user.hear(text) in lines("again") for text in (*asked, "Does it have fur?")]
        assert sum(again) == 1 and user.left == 17
        user, texts = player("cat", muddled, seed), iter((*asked, "Is it usually kept indoors?"))
        while user.mixed_up is None:
            reply = user.hear(next(texts))
        assert reply.startswith("No") and "cat" not in user.possible and "cat" in user.certain
        reply = user.hear("Is it a dog?")
        assert user.mixed_up is None and "cat" in user.possible
        assert any(t.answer == "yes" and t.fits("cat") for t in read_reply(None, reply))


def test_potential_is_the_share_of_the_information() -> None:
    env = DialogueEnv(SCENARIO)
    env.reset(seed=0)
    thing = env.case.privileged["thing"]
    assert env.case.potential == 0
    env.step("Is it alive?")
    alive = THINGS.attributes["alive"].things
    left = len(alive) if thing in alive else len(THINGS.names) - len(alive)
    share = math.log(len(THINGS.names) / left) / math.log(len(THINGS.names))
    assert env.case.potential == pytest.approx(0.4 * share)


SAID = st.sampled_from(
    [
        *NONSENSE,
        *(a.ask for a in THINGS.attributes.values()),
        *(f"Is it {THINGS.called(n)}?" for n in THINGS.names),
    ]
) | st.text(max_size=30)


@settings(deadline=None, max_examples=60)
@given(
    said=st.lists(SAID, max_size=22),
    seed=st.integers(0, 10_000),
    user=st.sampled_from(sorted(FAMILIES)),
)
def test_progress_telescopes_and_every_game_ends(said: list[str], seed: int, user: str) -> None:
    env = DialogueEnv(SCENARIO, users=(user,), max_turns=TURNS)
    env.reset(seed=seed)
    progress, agent, over = 0.0, Lines(*said, "Hm."), False
    while not over:
        _, _, over, truncated, info = env.step(agent.reply((), {}))
        assert not truncated  # 20 messages, and one that asks to be asked again
        progress += info["parts"]["progress"]
    assert progress == pytest.approx(0)
    assert info["parts"]["resolution"] == (1.0 if info["success"] else -0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_nonsense_breaks_no_user(family: str) -> None:
    """Thousands of turns: nonsense, Unicode and messages of 10,000 characters."""
    rng, env = np.random.default_rng(0), DialogueEnv(SCENARIO, users=(family,), max_turns=TURNS)
    turns = 0
    for seed in range(80):
        env.reset(seed=seed)
        over = False
        while not over:
            said = str(rng.choice([*NONSENSE, env.action_space.sample(), "Is it red?", "a cat?"]))
            if rng.random() < 0.2:
                said = "".join(chr(int(c)) for c in rng.integers(32, 0xD7FF, 40))
            _, _, terminated, truncated, _ = env.step(said)
            over, turns = terminated or truncated, turns + 1
    assert turns > 300


def test_the_verdict_is_the_one_that_the_user_would_reach() -> None:
    for seed in range(20):
        env = DialogueEnv(SCENARIO, "dev")
        env.reset(seed=seed)
        right = f"Is it {THINGS.called(env.case.privileged['thing'])}?"
        before = env.case.privileged
        assert env.case.judge(right) == 1.0
        assert env.case.judge("Is it alive?") == env.case.judge("I give up.") == 0.0
        assert env.case.privileged == before  # it changes nothing
        assert env.step(right)[4]["parts"]["resolution"] == 1.0


def test_a_person_answers_in_the_users_place() -> None:
    env = DialogueEnv(SCENARIO)
    env.reset(seed=0)
    case = env.case
    assert case.solution in case.privileged["card"]
    for asked, reply, told in (
        ("Is it alive?", "yes", {"alive": True}),
        ("Is it an animal?", "Nope.", {"alive": True, "animal": False}),
        ("Is it heavy?", "oh, who knows", {"alive": True, "animal": False}),
        ("Is it a person?", "no idea", {"alive": True, "animal": False, "person": False}),
    ):
        case.overhear(asked)
        assert case.tell(reply) == (Message("user", reply),)
        assert case.privileged["told"] == told, reply


# The sides


def wordings(side: Mapping[str, list[str]]) -> Iterator[str]:
    for kind in side:
        yield from (" ".join(re.findall(r"\w+|{\w+}", line.lower())) for line in side[kind])


def test_no_wording_stands_on_two_sides() -> None:
    words = load_data("thing_words")
    for one, two in combinations(SPLITS, 2):
        assert set(words[one]) == set(words[two])
        assert not set(wordings(words[one])) & set(wordings(words[two]))


def test_sides_think_of_different_things_that_are_as_hard() -> None:
    sides = {split: set(game.side(split)) for split in SPLITS}
    assert [len(sides[split]) for split in SPLITS] == [178, 60, 59]
    assert set().union(*sides.values()) == set(THINGS.names)
    assert sum(map(len, sides.values())) == len(THINGS.names)
    taken = questions(best_tree())
    for side in sides.values():
        assert np.mean([taken[t] for t in side]) == pytest.approx(SCENARIO.optimum, abs=0.01)


@pytest.mark.parametrize("split", SPLITS)
def test_all_things_of_a_side_occur(split: str) -> None:
    env = DialogueEnv(SCENARIO, split)
    seen = {env.reset(seed=s)[1]["privileged"]["thing"] for s in range(800)}
    assert seen <= set(game.side(split))
    assert len(seen) > 0.95 * len(game.side(split))


# Agents


@dataclass(frozen=True)
class Row:
    """Means over episodes."""

    success: float
    score: float
    manners: float
    turns: float

    def __str__(self) -> str:
        scored = f"{self.score:+.2f} | {self.score + self.manners:+.2f}"
        return f"{self.success:.1%} | {scored} | {self.turns:.2f}"


@pytest.fixture(scope="module")
def measure() -> Callable[..., Row]:
    """Play each agent once and keep the row."""

    @cache
    def row(
        name: str, split: str = "test", users: tuple[str, ...] = (), episodes: int = EPISODES
    ) -> Row:
        env = DialogueEnv(SCENARIO, split, users, RuleScorer(), max_turns=TURNS)
        played = [run(env, AGENTS[name](seed), seed) for seed in range(episodes)]
        # Rounded, as a mean may lie just between two printed numbers.
        return Row(*(round(float(mean), 6) for mean in np.mean(played, axis=0)))

    return row


@pytest.mark.long
def test_the_expert_wins_near_the_optimum(measure: Callable[..., Row]) -> None:
    assert measure("expert").success == 1.0
    assert measure("expert").turns < SCENARIO.optimum + 0.4  # the forgetful take their time
    plain = measure("expert", "test", ("agenda",)).turns
    assert plain == pytest.approx(SCENARIO.optimum, abs=0.15)  # two standard errors
    assert measure("expert", "test", tuple(FAMILIES)).success >= 0.97


@pytest.mark.long
def test_who_reads_only_the_conversation_wins_too(measure: Callable[..., Row]) -> None:
    assert measure("knowledge-graph").success >= 0.97
    for split in ("train", "dev"):
        assert measure("knowledge-graph", split, (), 40).success >= 0.95
    env = DialogueEnv(SCENARIO, "dev")
    _, info = env.reset(seed=0)
    assert KnowledgeGraphAgent().reply(info["conversation"], {}) == "Is it usually kept indoors?"


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_the_demonstrator_is_mediocre(measure: Callable[..., Row], split: str) -> None:
    episodes = EPISODES if split == "test" else 150
    assert 0.4 <= measure("demonstrator", split, (), episodes).success <= 0.7


@pytest.mark.long
def test_luck_and_words_are_not_enough(measure: Callable[..., Row]) -> None:
    assert measure("random").success <= 0.05
    for name in ("Sprayer", "Keywords", "PoliteRepeater"):
        assert measure(name).success == 0.0


def test_agents_depend_on_their_seed_alone() -> None:
    for make in (Demonstrator, RandomAgent):
        env = DialogueEnv(SCENARIO, max_turns=TURNS)
        assert [run(env, make(s), s) for s in range(9)] == [run(env, make(s), s) for s in range(9)]


@pytest.mark.long
def test_the_page_tells_what_is_measured(measure: Callable[..., Row]) -> None:
    rows: list[Any] = [f"| `{name}` | {measure(name)} |" for name in AGENTS]
    print("\n" + "\n".join(rows))
    missing = set(rows) - set(PAGE.read_text("utf-8").splitlines())
    assert not missing, f"expected these rows in {PAGE.name}: {sorted(missing)}"
