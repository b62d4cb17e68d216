"""Guessing a number: what is understood, what is told, and the least number of questions.

The table of docs/worlds/guess-number-v0.md comes from here:

    pytest tests/envs/scenarios/games/test_guess_number.py -k page -s
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
from rlchat_envs.scenarios.games import GuessNumberScenario
from rlchat_envs.scenarios.games.data import load_data
from rlchat_envs.scenarios.games.guess_number import NumberRules, least_questions
from rlchat_envs.scenarios.games.number_agents import Bisector, Demonstrator, Expert, RandomAgent
from rlchat_envs.scenarios.games.number_questions import (
    MAX_LENGTH,
    NumberQuestion,
    read_reply,
    understand,
)
from rlchat_envs.scenarios.games.numerals import in_digits
from rlchat_envs.scenarios.games.player import Heard, Player
from rlchat_envs.users.personas import FAMILIES, Persona
from rlchat_reward_models import RuleScorer

PAGE = Path(__file__).parents[4] / "docs" / "worlds" / "guess-number-v0.md"
PARAPHRASES = Path(__file__).parents[2] / "data" / "guess_number.jsonl"
SCENARIO, TURNS, EPISODES = GuessNumberScenario(), 16, 300
PATIENT = Persona("patient", "agenda", "train", patience=20)
NONSENSE = [
    *("", " ", "\n\n", "\x00", "\u202e\u0301\ud7ff", "z" * 10_000, "Is it 50? " * 1_000),
    *("?" * 300, "9" * 300, "Is it " + "9" * 250 + "?", "{fact} %s {0}", "<|im_start|>user\nhi"),
    *("-", "> 5 <", "between 9 and", "fifty fifty", "a hundred hundred", "divisible by 0?"),
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
    "Sprayer": lambda seed: Lines(f"Is it {', '.join(map(str, range(1, 101)))}?"[:290]),
    "Keywords": lambda seed: Lines("higher lower even odd number guess 50 between 1 and 100?"),
    "PoliteRepeater": lambda seed: Lines(
        "Thank you so much for your patience, I am happy to help."
    ),
}


def player(secret: int = 37, persona: Persona = PATIENT, seed: int = 0) -> Player[int]:
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
        _, total, terminated, truncated, info = env.step(said)
        own = info["parts"]["progress"] + info["parts"]["resolution"]
        score, manners = score + own, manners + total - own
        over = terminated or truncated
    assert not truncated
    return float(info["success"]), score, manners, float(info["turn"])


# Numbers in words


def in_words(n: int) -> str:
    words = load_data("number_heard")
    if n < 20:
        return str(words["units"][n])
    if n < 100:
        tens = str(words["tens"][n // 10 - 2])
        return tens if n % 10 == 0 else f"{tens}-{in_words(n % 10)}"
    rest = "" if n % 100 == 0 else f" and {in_words(n % 100)}"
    return f"{in_words(n // 100)} hundred{rest}"


def test_all_numbers_below_a_thousand_are_understood_in_words() -> None:
    assert in_words(42) == "forty-two" and in_words(312) == "three hundred and twelve"
    for n in range(1_000):
        assert in_digits(in_words(n)) == str(n)
        assert in_digits(in_words(n).replace("-", " ")) == str(n)


def test_pronouns_and_fractions_are_no_numbers() -> None:
    for text in ("is it this one?", "one of them", "one more guess", "someone", "is it 3.5?"):
        assert not re.search(r"\d", in_digits(text)), text
    assert in_digits("a hundred, 1,000 or one?") == "100, 1000 or 1?"


# What is understood


def meant(heard: Heard[int]) -> str:
    """What a message comes down to, as the paraphrases put it."""
    if heard.gives_up:
        return "giving up"
    if len(heard.questions) != 1:
        return "several" if heard.questions else "a question" if heard.asks else "no question"
    (q,) = heard.questions
    assert isinstance(q, NumberQuestion)
    if q.kind == "within":
        return f"within {'-' if q.low is None else q.low} {'-' if q.high is None else q.high}"
    if (q.kind, q.low) == ("multiple", 2):
        return "even"
    return q.kind if q.kind == "odd" else f"{q.kind} {q.low}"


def test_paraphrases_are_understood() -> None:
    """Written after the understanding was, which was not changed for their sake."""
    said = [json.loads(line) for line in PARAPHRASES.read_text("utf-8").splitlines()]
    missed = [line for line in said if meant(understand(line["text"])) != line["meant"]]
    for line in missed:
        print(f"missed: {line['text']}: {line['meant']}, heard {meant(understand(line['text']))}")
    print(f"understood {1 - len(missed) / len(said):.1%} of {len(said)}")
    assert len(said) > 100
    assert len(missed) <= 0.1 * len(said)


@pytest.mark.parametrize("number", range(1, 101))
def test_the_agents_guesses_are_understood(number: int) -> None:
    assert understand(f"Is it {number}?").questions == (NumberQuestion("guess", number),)


def test_a_statement_beside_a_question_is_no_question() -> None:
    assert meant(understand("So it is above 50. Is it 75?")) == "guess 75"
    assert meant(understand("You said lower than 50, so is it 25?")) == "guess 25"


@pytest.mark.parametrize(
    ("question", "answers"),
    [
        (NumberQuestion("guess", 5), {4: "lower", 5: "right", 6: "higher"}),
        (NumberQuestion("side", 5), {4: "lower", 5: "neither", 6: "higher"}),
        (NumberQuestion("within", 3, 5), {2: "no", 3: "yes", 5: "yes", 6: "no"}),
        (NumberQuestion("within", None, 5), {5: "yes", 6: "no"}),
        (NumberQuestion("multiple", 3), {9: "yes", 10: "no"}),
        (NumberQuestion("odd"), {9: "yes", 10: "no"}),
        (NumberQuestion("ends", 7), {47: "yes", 74: "no"}),
    ],
)
def test_answers_are_true(question: NumberQuestion, answers: dict[int, str]) -> None:
    assert {n: question.answer(n) for n in answers} == answers


@pytest.mark.parametrize(
    "piece", [*" ?-,", "is it 5 ", "\ufdfa", "5 and ", "higher than ", "between "]
)
def test_no_text_takes_long_to_read(piece: str) -> None:
    start = time.perf_counter()
    understand((piece * MAX_LENGTH)[:MAX_LENGTH])
    read_reply(None, (piece * 800)[:800])
    assert time.perf_counter() - start < 1.0


# The least number of questions


@cache
def by_brute_force(left: frozenset[int]) -> float:
    """The least average over any guess, and any question with two answers whatsoever."""
    if len(left) <= 1:
        return float(len(left))
    n = len(left)
    parts = [({x for x in left if x < g}, {x for x in left if x > g}) for g in left]
    for size in range(1, n // 2 + 1):
        parts += [(set(some), set(left) - set(some)) for some in combinations(sorted(left), size)]
    return 1 + min(
        sum(len(part) * by_brute_force(frozenset(part)) for part in pair) / n for pair in parts
    )


@pytest.mark.parametrize("count", range(1, 8))
def test_the_optimum_is_that_of_brute_force(count: int) -> None:
    assert least_questions(count) == pytest.approx(by_brute_force(frozenset(range(count))))


def test_the_optimum_is_that_of_halving() -> None:
    """Guesses in the middle fill a binary tree level by level: level i has 2^(i-1) numbers."""
    for count in (1, 2, 3, 10, 64, 100, 127, 128, 300):
        full = int(math.log2(count + 1))
        levels = sum(level * 2 ** (level - 1) for level in range(1, full + 1))
        total = levels + (full + 1) * (count - 2**full + 1)
        assert least_questions(count) == pytest.approx(total / count)
    assert SCENARIO.optimum == least_questions(100) == 5.80


def test_the_expert_takes_the_optimum_on_average_over_all_numbers() -> None:
    taken = []
    for secret in range(1, 101):
        user, expert = player(secret), Expert()
        while not user.verdict:
            shown = user.rules.show(secret, user.told, user.possible)
            user.hear(expert.reply((), shown))
        assert user.verdict == "guessed"
        taken.append(user.questions)
    assert np.mean(taken) == SCENARIO.optimum
    assert max(taken) == 7


# What users say


def test_bounds_can_be_read_off_every_reply() -> None:
    user = player(37)
    rng = np.random.default_rng(0)
    for number in (50, 25, 43, 31):
        reply = user.hear(f"Is it {number}?")
        (told,) = read_reply(None, reply)
        low, high = user.possible[0], user.possible[-1]
        assert told.question == NumberQuestion(
            "within", None if low == 1 else low, None if high == 100 else high
        )
    assert (low, high) == (32, 42)
    rules = NumberRules(1, 100)
    guess = NumberQuestion("guess", 50)
    said = rules.state(
        user.told[0], range(1, 101), range(1, 50), lambda kind: rules.lines("train")[kind][0]
    )
    assert (user.told[0].question, said, rng is not None) == (guess, "lower than 50", True)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("Is it 50?", "lower than 50"),
        ("Is it 20?", "higher than 20"),
        ("Is it above 40?", "lower than 41"),
        ("Is it below 40?", "lower than 40"),
        ("Is it between 30 and 40?", "higher than 29, lower than 41"),
        ("Is it between 50 and 60?", "not between 50 and 60"),
        ("Is it even?", "odd"),
        ("Is it odd?", "odd"),
        ("Is it a multiple of 5?", "not a multiple of 5"),
        ("Does it end in 7?", "a number that ends in 7"),
        ("Is it higher or lower than 37?", "neither higher nor lower than 37"),
        ("Is it 150?", "between 1 and 100"),
    ],
)
def test_facts_in_words(text: str, fact: str) -> None:
    user = player(37)
    user.hear(text)
    rules = SCENARIO.rules
    said = rules.state(
        user.told[0], rules.secrets, user.possible, lambda kind: rules.lines("train")[kind][0]
    )
    assert said == fact


@pytest.mark.parametrize(
    ("text", "kind", "cost"),
    [
        ("Thank you, that is kind.", "stalled", 1),
        ("Is it a nice number?", "confused", 1),
        ("Is it 50 or 51?", "several", 1),
        ("x" * 10_000, "too_long", 2),
    ],
)
def test_what_is_no_question_costs_patience(text: str, kind: str, cost: int) -> None:
    user = player()
    assert user.hear(text) in lines(kind)
    assert (user.patience, user.left, user.questions) == (20 - cost, 11, 0)


def test_a_question_costs_patience_only_if_its_answer_is_known() -> None:
    user = player(37)
    for text, patience in (("Is it 50?", 20), ("Is it 50?", 19), ("Is it 80?", 18), ("25?", 18)):
        user.hear(text)
        assert user.patience == patience, text
    user.hear("Is it above 20?")
    assert user.patience == 17


def test_a_game_is_lost_after_twelve_messages() -> None:
    user = player(100)
    for number in range(1, 13):
        assert not user.verdict
        user.hear(f"Is it {number}?")
    assert (user.verdict, user.left) == ("out of questions", 0)


def test_the_twelfth_guess_may_be_right() -> None:
    user = player(12)
    for number in range(1, 13):
        user.hear(f"Is it {number}?")
    assert user.verdict == "guessed"


def test_giving_up_and_patience_at_zero_lose_the_game() -> None:
    user = player()
    assert "37" in user.hear("I give up.")
    assert user.verdict == "gave up"
    user = player(persona=Persona("short", "agenda", "train", patience=2))
    user.hear("Hello.")
    assert user.verdict == ""
    assert "37" in user.hear("Hello.")
    assert (user.patience, user.verdict) == (0, "walked out")


def test_giving_in_to_who_presses_for_it_is_a_cost() -> None:
    for user, costs in (("adversarial", {"policy": 1.0}), ("chatty", {})):
        env = DialogueEnv(SCENARIO, users=(user,))
        env.reset(seed=0)
        _, score, terminated, _, info = env.step("I give up.")
        assert (score, terminated, info["costs"]) == (-0.5, True, costs)


def test_the_forgetful_have_to_be_asked_again_once() -> None:
    sieve = Persona("sieve", "forgetful", "train", patience=9, forgets=1.0)
    for seed in range(20):
        user = player(100, sieve, seed)
        again = [user.hear(f"Is it {n}?") in lines("again") for n in range(1, 9)]
        assert sum(again) == 1 and any(again[:4])
        assert (user.patience, user.left) == (9, 5)  # asking again is free
    user = player(1, sieve)
    user.hear("Is it 1?")
    assert user.verdict == "guessed"  # who forgets knows the right number when it is named


def test_a_wrong_answer_is_put_right_with_the_next_message() -> None:
    muddled = Persona("muddled", "forgetful", "train", patience=9, contradicts=1.0)
    for seed in range(20):
        user, numbers = player(60, muddled, seed), iter((30, 40, 50, 55, 57))
        while user.mixed_up is None:
            number = next(numbers)
            reply = user.hear(f"Is it {number}?")
        assert read_reply(None, reply)[0].fits(number - 1)  # lower, it says
        certain = user.certain
        assert user.possible[-1] < 60 <= certain[-1]
        reply = user.hear("Is it even?")
        assert user.mixed_up is None and 60 in user.possible
        assert read_reply(None, reply)[0].fits(60)
        assert user.patience == 9


def test_noise_never_turns_an_answer_round() -> None:
    noisy = Persona("noisy", "noisy", "train", patience=20, noise=0.9)
    for seed in range(200):
        user = player(37, noisy, seed)
        for number in (50, 25, 43):
            assert all(told.fits(37) for told in read_reply(None, user.hear(f"Is it {number}?")))


# The score


def test_potential_is_the_share_of_the_information() -> None:
    env = DialogueEnv(SCENARIO)
    env.reset(seed=0)
    number = env.case.privileged["number"]
    assert env.case.potential == 0
    env.step(f"Is it above {number}?")
    assert env.case.potential == pytest.approx(0.4 * math.log(100 / number) / math.log(100))
    env.step(f"Is it above {number - 1}?")
    assert env.case.potential == pytest.approx(0.4)
    assert (env.case.privileged["low"], env.case.privileged["high"]) == (number, number)
    _, score, terminated, _, info = env.step(f"{number}!")
    assert (score, terminated, info["success"]) == (pytest.approx(0.6), True, True)


SAID = (
    st.integers(-5, 130).map("Is it {}?".format) | st.sampled_from(NONSENSE) | st.text(max_size=30)
)


@settings(deadline=None, max_examples=60)
@given(
    said=st.lists(SAID, max_size=14),
    seed=st.integers(0, 10_000),
    user=st.sampled_from(sorted(FAMILIES)),
)
def test_progress_telescopes_and_every_game_ends(said: list[str], seed: int, user: str) -> None:
    env = DialogueEnv(SCENARIO, users=(user,), max_turns=TURNS)
    env.reset(seed=seed)
    progress, agent, over = 0.0, Lines(*said, "Hm."), False
    while not over:
        _, _, over, truncated, info = env.step(agent.reply((), {}))
        assert not truncated  # 12 messages, and one that asks to be asked again
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
            said = str(rng.choice([*NONSENSE, env.action_space.sample(), "Is it 50?", "above 40?"]))
            if rng.random() < 0.2:
                said = "".join(chr(int(c)) for c in rng.integers(32, 0xD7FF, 40))
            _, _, terminated, truncated, _ = env.step(said)
            over, turns = terminated or truncated, turns + 1
    assert turns > 300


def test_the_verdict_is_the_one_that_the_user_would_reach() -> None:
    for seed in range(20):
        env = DialogueEnv(SCENARIO, "dev")
        env.reset(seed=seed)
        number = env.case.privileged["number"]
        before = env.case.privileged
        assert env.case.judge(f"Is it {number}?") == 1.0
        assert env.case.judge(f"Is it {number % 100 + 1}?") == env.case.judge("I give up.") == 0.0
        assert env.case.judge(f"Is it {number} or {number + 1}?") == 0.0
        assert env.case.privileged == before  # it changes nothing
        assert env.step(f"Is it {number}?")[4]["parts"]["resolution"] == 1.0


def test_a_person_answers_in_the_users_place() -> None:
    env = DialogueEnv(SCENARIO)
    env.reset(seed=0)
    case = env.case
    assert str(case.privileged["number"]) in case.privileged["card"]
    for asked, reply, bounds in (
        ("Is it 50?", "higher", (51, 100)),
        ("Is it 75?", "No, it's lower than that.", (51, 74)),
        ("Is it above 60?", "yes", (61, 74)),
        ("Is it even?", "nope", (61, 73)),
        ("Is it 30?", "oh dear", (61, 73)),
        ("Is it 30?", "it's lower than 30, I was joking", (1, 29)),
    ):
        case.overhear(asked)
        assert case.tell(reply) == (Message("user", reply),)
        assert (case.privileged["low"], case.privileged["high"]) == bounds, reply
    assert case.solution == str(case.privileged["number"])


# The sides


def wordings(side: Mapping[str, list[str]]) -> Iterator[str]:
    for kind in side:
        yield from (" ".join(re.findall(r"\w+|{\w+}", line.lower())) for line in side[kind])


def test_no_wording_stands_on_two_sides() -> None:
    words = load_data("number_words")
    for one, two in combinations(SPLITS, 2):
        assert set(words[one]) == set(words[two])
        assert not set(wordings(words[one])) & set(wordings(words[two]))


def test_sides_tell_different_stories_and_all_numbers_occur() -> None:
    seen = {
        split: [DialogueEnv(SCENARIO, split).reset(seed=s)[1]["privileged"] for s in range(300)]
        for split in SPLITS
    }
    for split in SPLITS:
        assert len({privileged["number"] for privileged in seen[split]}) > 85
        assert len({privileged["persona"] for privileged in seen[split]}) == 4
    assert [h["number"] for h in seen["train"]] != [h["number"] for h in seen["test"]]


@pytest.mark.parametrize(("low", "high"), [(5, 5), (1, 2_000), (9, 3)])
def test_ranges_that_cannot_be_played_are_refused(low: int, high: int) -> None:
    with pytest.raises(
        ValueError, match=f"expected a range of 2 to 1000 numbers; got {low} to {high}"
    ):
        GuessNumberScenario(low, high)


def test_another_range_can_be_played() -> None:
    scenario = GuessNumberScenario(-10, 10)
    env = DialogueEnv(scenario, "test")
    for seed in range(20):
        assert run(env, Bisector(), seed)[0] == 1.0
    assert scenario.optimum == least_questions(21)


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
    def row(name: str, split: str = "test", users: tuple[str, ...] = ()) -> Row:
        env = DialogueEnv(SCENARIO, split, users, RuleScorer(), max_turns=TURNS)
        played = [run(env, AGENTS[name](seed), seed) for seed in range(EPISODES)]
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
    for split in SPLITS:
        assert measure("knowledge-graph", split).success >= 0.97
    env = DialogueEnv(SCENARIO, "dev")
    _, info = env.reset(seed=0)
    assert Bisector().reply(info["conversation"], {}) == "Is it 50?"


@pytest.mark.long
@pytest.mark.parametrize("split", SPLITS)
def test_the_demonstrator_is_mediocre(measure: Callable[..., Row], split: str) -> None:
    assert 0.74 <= measure("demonstrator", split).success <= 0.86
    assert 8.2 <= measure("demonstrator", split).turns <= 9.5


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
