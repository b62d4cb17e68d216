"""The hard tier: several problems, records that contradict the customer, policy exceptions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlchat_envs import SPLITS, DialogueEnv, Message
from rlchat_envs.scenarios.support import SupportHardCase, SupportHardScenario
from rlchat_envs.scenarios.support.desk import Desk
from rlchat_envs.scenarios.support.goals import INTENTS, RESOLUTIONS, Goal, load_data
from rlchat_envs.scenarios.support.hard.agents import HardExpert, HardMediocreDesk, HardSpeaker
from rlchat_envs.scenarios.support.hard.goals import (
    TWISTS,
    Problem,
    contradicting_status,
    draw_problems,
)
from rlchat_envs.scenarios.support.hard.nlu import CONTRADICTIONS, contradicts, is_kind
from rlchat_envs.scenarios.support.hard.user import HardCustomer
from rlchat_envs.scenarios.support.nlu import LEXICON
from rlchat_envs.users.personas import FAMILIES, PERSONAS, Persona, choose_personas

PATIENT = Persona("patient", "agenda", "train", patience=10)
RULES = (
    ("on schedule", "wait"),
    ("running late", "voucher"),
    ("lost", "refund"),
    ("delivered, signed for by a neighbour", "trace"),
)
GOAL = Goal(
    intent="tracking",
    shop="Harbor & Pine",
    customer="Amelia Gupta",
    item="desk lamp",
    order_number="B4821",
    detail="54321",
    status="delivered, signed for by a neighbour",
    policy=RULES,
)
CONTRADICTED = Problem(GOAL, "contradiction", RULES, "Customer since 2018.", claims=True)
EXCEPTED = Problem(
    replace(GOAL, status="lost", policy=(*RULES[:2], ("lost", "replacement"), RULES[3])),
    "exception",
    RULES,
    "Customer since 2012.",
    "customers since before 2015",
    "replacement",
)
SECOND = Problem(
    Goal(
        intent="warranty",
        shop="Harbor & Pine",
        customer="Amelia Gupta",
        item="wall clock",
        order_number="C1234",
        detail="a long crack runs down the side",
        status="warranty valid",
        policy=(("warranty valid", "repair"), ("warranty expired", "voucher")),
    ),
    "plain",
    (("warranty valid", "repair"), ("warranty expired", "voucher")),
    "Club member.",
)
ASK = "May I have your order number and the postcode, please?"
ASK_AGAIN = "May I have your order number and a description of the fault, please?"
TELL = "I am sorry, but our record says that a neighbour signed for it."
TRACE, REPAIR, REFUND = "We open a carrier trace.", "We repair it.", "You get a refund."


@dataclass
class Played:
    infos: list[dict[str, Any]]
    scores: list[float] = field(default_factory=list)
    terminated: bool = False


def play(said: Any, split: str = "test", seed: int = 0, users: tuple[str, ...] = ()) -> Played:
    """Play an agent, or lines of which the last is said for ever."""
    env = DialogueEnv(SupportHardScenario(), split, users)
    episode = Played([env.reset(seed=seed)[1]])
    over = False
    while not over:
        info = episode.infos[-1]
        line = (
            (said or [""])[min(info["turn"], len(said) - 1)]
            if isinstance(said, list)
            else said.reply(info["conversation"], info["privileged"])
        )
        _, score, episode.terminated, truncated, info = env.step(line)
        episode.infos.append(info)
        episode.scores.append(score)
        over = episode.terminated or truncated
    return episode


def case(*problems: Problem, persona: Persona = PATIENT) -> SupportHardCase:
    rng = np.random.default_rng(0)
    return SupportHardCase(HardCustomer(problems, persona, "train", rng), rng.spawn(1)[0])


def lines(kind: str) -> set[str]:
    return set(load_data("hard/phrasings")["train"]["say"][kind])


def easy_lines(kind: str) -> set[str]:
    return set(load_data("phrasings")["train"]["say"][kind])


def said(opened: SupportHardCase, text: str) -> str:
    return opened.hear(text).messages[0].content


# Problems


def test_records_and_policies_in_words() -> None:
    assert CONTRADICTED.record_text == (
        "Order B4821: desk lamp, Amelia Gupta. Status: delivered, signed for by a neighbour. "
        "Customer since 2018."
    )
    rules = (
        "Policy on deliveries: on schedule: customer waits; running late: discount voucher; "
        "lost: full refund; delivered, signed for by a neighbour: open a carrier trace."
    )
    assert CONTRADICTED.policy_text == rules
    assert EXCEPTED.policy_text == (
        f"{rules} Exception: customers since before 2015: send a replacement."
    )
    assert (CONTRADICTED.goal.resolution, EXCEPTED.goal.resolution) == ("trace", "replacement")
    assert CONTRADICTED.solution == (
        'open a carrier trace, as the status is "delivered, signed for by a neighbour"'
    )
    assert EXCEPTED.solution == (
        "send a replacement, as an exception is made for customers since before 2015"
    )


def drawn(split: str, count: int = 2_000) -> Iterator[tuple[Problem, ...]]:
    for seed in range(count):
        yield draw_problems(np.random.default_rng(seed), split)


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_drawn(split: str) -> None:
    cases = list(drawn(split))
    twists = Counter(p.twist for problems in cases for p in problems)
    assert set(twists) == set(TWISTS) and min(twists.values()) > 300
    assert 900 < sum(len(problems) == 2 for problems in cases) < 1_100
    assert {p.goal.intent for problems in cases for p in problems} == set(INTENTS)
    assert {p.goal.resolution for problems in cases for p in problems} == set(RESOLUTIONS)
    for problems in cases:
        assert len(problems) == 2 or problems[0].twist != "plain"
        for name in ("intent", "item", "order_number"):
            assert len({getattr(p.goal, name) for p in problems}) == len(problems)
        assert len({(p.goal.customer, p.goal.shop) for p in problems}) == 1


def test_what_the_rules_and_the_exception_come_to() -> None:
    exceptions = {e["made_for"]: e for e in load_data("hard/catalogue")["exceptions"]}
    for problem in (p for problems in drawn("train", 1_000) for p in problems):
        goal, by_rule = problem.goal, dict(problem.written)[problem.goal.status]
        assert problem.contradicted == (goal.status == contradicting_status(goal.intent))
        assert [s for s, _ in problem.written] == [s for s, _ in goal.policy]
        if problem.made_for:
            told = exceptions[problem.made_for]
            right = "fits" if problem.twist == "exception" else "misses"
            assert problem.note in told[right]
            assert problem.exceptional != by_rule
        expected = problem.exceptional if problem.twist == "exception" else by_rule
        assert goal.resolution == expected
        assert ("Exception" in problem.policy_text) == (problem.twist in ("exception", "near miss"))


def test_the_catalogue_is_readable() -> None:
    known = load_data("hard/catalogue")
    assert set(known["contradictions"]) == set(INTENTS) == set(CONTRADICTIONS)
    for intent, entry in known["contradictions"].items():
        assert not re.search("[:;.]", entry["status"])
        assert entry["status"] not in INTENTS[intent].outcomes
        assert set(entry["outcomes"]) <= set(RESOLUTIONS) and len(entry["outcomes"]) == 2
    for entry in known["exceptions"]:
        assert not set(entry["fits"]) & set(entry["misses"])


# Words


def leaves(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    else:
        for part in data.values() if isinstance(data, dict) else data:
            yield from leaves(part)


@pytest.mark.parametrize(("one", "two"), list(combinations(SPLITS, 2)))
def test_no_wording_stands_on_two_sides(one: str, two: str) -> None:
    def plain(side: str) -> set[str]:
        both = (load_data(name)[side] for name in ("phrasings", "hard/phrasings"))
        return {" ".join(re.findall(r"\w+|{\w+}", s.lower())) for d in both for s in leaves(d)}

    assert not plain(one) & plain(two)


@pytest.mark.parametrize("split", SPLITS)
def test_every_side_has_every_table(split: str) -> None:
    side, train = load_data("hard/phrasings")[split], load_data("hard/phrasings")["train"]
    assert {k: set(v) for k, v in side.items()} == {k: set(v) for k, v in train.items()}
    assert set(side["second"]) == set(side["claim"]) == set(INTENTS)
    assert all(line.count("{item}") == 1 for line in leaves(side["second"]))
    assert not any("{" in line for line in leaves([side["claim"], side["say"]]))


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_said_around_the_facts_holds_none(split: str) -> None:
    side = load_data("hard/phrasings")[split]
    for problem in (p for problems in drawn(split, 100) for p in problems):
        desk, intent = Desk(problem), problem.goal.intent
        around = [*leaves(side["say"]), *side["claim"][intent], *side["second"][intent]]
        assert not any(desk.read(line.format(item=problem.goal.item)) for line in around)
        assert not desk.has_detail


def test_the_desks_lines_are_heard_as_they_are_meant() -> None:
    speaker = HardSpeaker(0)
    for intent in INTENTS:
        status = contradicting_status(intent)
        for resolution in RESOLUTIONS:
            for kind in (True, False):
                text = speaker.contradict(resolution, status, kind)
                heard = LEXICON.understand(text)
                assert (heard.asks, heard.offers) == ((), (resolution,)), text
                assert contradicts(text, intent) and is_kind(text) == kind, text


@pytest.mark.parametrize(
    ("intent", "text", "offer"),
    [
        ("tracking", "I'm so sorry, but it looks like a neighbor signed for it. We'll open a trace "
         "with the carrier.", "trace"),
        ("tracking", "Unfortunately, the courier shows it as delivered. I'll send a new one out.",
         "replacement"),
        ("return", "I understand, but the item was already returned in May. Please wait a little.",
         "wait"),
        ("exchange", "I'm afraid that another version has already been shipped to you. Here is a "
         "voucher for the trouble.", "voucher"),
        ("cancel", "I am sorry, it arrived last week. I will refund you in full.", "refund"),
        ("address", "It seems that somebody picked it up in person. You get store credit.",
         "store_credit"),
        ("warranty", "I’m sorry to say it is six years old. We can repair it for you.", "repair"),
        ("damaged", "I believe you, yet the driver's photo shows it in good shape. We'll fix it.",
         "repair"),
        ("wrong_item", "That is odd, as the packing photo shows the right item. I'll refund it.",
         "refund"),
    ],
)  # fmt: skip
def test_other_peoples_words_are_understood(intent: str, text: str, offer: str) -> None:
    assert contradicts(text, intent) and is_kind(text)
    assert LEXICON.understand(text).offers == (offer,)


@pytest.mark.parametrize(
    ("intent", "text"),
    [
        ("tracking", "I am sorry about the trouble. We open a carrier trace."),
        ("tracking", "Was it delivered to a neighbour, perhaps?"),
        ("return", "I am sorry to hear that. Could you tell me the reason for the return?"),
        ("exchange", "I understand. Which other version would you like?"),
        ("damaged", "I am sorry. Please send us a photo."),
        ("cancel", "I am sorry, your neighbour has it."),
        ("address", "x" * 2_000 + " collected in person"),
    ],
)
def test_what_tells_no_contradiction(intent: str, text: str) -> None:
    assert not contradicts(text, intent)


def test_naming_every_contradiction_tells_none() -> None:
    everything = ". ".join(contradicting_status(intent) for intent in INTENTS)
    assert not any(contradicts(everything, intent) for intent in INTENTS)


# The customer


def test_a_contradiction_has_to_be_told_kindly() -> None:
    opened = case(CONTRADICTED)
    opened.hear(ASK)
    assert opened.privileged["untold"]
    assert opened.judge(TRACE) == 0
    assert said(opened, TRACE) in lines("protest")
    assert said(opened, f"The record says: a neighbour has it. {TRACE}") in lines("accused")
    assert said(opened, "The record says: a neighbour has it.") in lines("accused")
    assert (opened.privileged["patience"], opened.privileged["untold"]) == (10 - 2 - 2 - 1, True)
    assert opened.judge(f"{TELL} {TRACE}") == 1
    assert said(opened, TELL) in lines("surprised")
    assert (opened.privileged["patience"], opened.privileged["untold"]) == (4, False)
    assert opened.judge(TRACE) == 1
    reaction = opened.hear(TRACE)
    assert (reaction.terminated, reaction.resolution, opened.success) == (True, 1.0, True)


def test_it_may_be_told_with_the_offer() -> None:
    opened = case(CONTRADICTED)
    opened.hear(ASK)
    assert opened.hear(f"{TELL} {TRACE}").resolution == 1.0


def test_it_cannot_be_told_before_the_record_is_known() -> None:
    opened = case(CONTRADICTED)
    opened.hear(TELL)
    opened.hear(ASK)
    assert opened.privileged["untold"]


def test_where_nothing_contradicts_nothing_need_be_told() -> None:
    opened = case(EXCEPTED)
    opened.hear(ASK)
    assert opened.hear("We send a replacement.").resolution == 1.0


def test_the_first_rule_fails_where_an_exception_is_made() -> None:
    opened = case(EXCEPTED)
    opened.hear(ASK)
    reaction = opened.hear(REFUND)
    assert (reaction.terminated, reaction.resolution) == (True, -0.5)


def test_two_problems_by_hand() -> None:
    """0.2 for each record or policy, halved as there are two problems; +1 at the end only."""
    opened = case(EXCEPTED, SECOND)
    assert opened.potential == 0
    opened.hear("May I have your order number, please?")
    assert opened.potential == pytest.approx(0.1)
    opened.hear("And the postcode, please?")
    assert opened.potential == pytest.approx(0.2)
    assert opened.judge("We send a replacement.") == 0
    reaction = opened.hear("We send a replacement.")
    assert (reaction.terminated, reaction.resolution, opened.success) == (False, 0.0, False)
    told = reaction.messages[0].content
    assert any(told.startswith(line) for line in lines("more")) and "wall clock" in told
    assert (opened.privileged["problem"], opened.privileged["intent"]) == (1, "warranty")
    assert opened.judge(REPAIR) == 0  # the second order is not known yet
    found = opened.hear(ASK_AGAIN).messages[1:]
    assert [m.content for m in found] == [SECOND.record_text, SECOND.policy_text]
    assert opened.potential == pytest.approx(0.4)
    reaction = opened.hear(REPAIR)
    assert (reaction.terminated, reaction.resolution, opened.success) == (True, 1.0, True)


def test_patience_is_one_for_all_problems() -> None:
    opened = case(EXCEPTED, SECOND, persona=replace(PATIENT, patience=3))
    opened.hear("Hm.")
    opened.hear(ASK)
    opened.hear("We send a replacement.")
    assert opened.privileged["patience"] == 2
    assert said(opened, REPAIR) in easy_lines("walkout")  # no order: 2
    assert opened.privileged["verdict"] == "walked out"


def test_a_wrong_offer_ends_the_case() -> None:
    opened = case(EXCEPTED, SECOND)
    opened.hear(ASK)
    reaction = opened.hear("You get a discount voucher.")
    assert (reaction.terminated, reaction.resolution, opened.success) == (True, -0.5, False)


def test_protests_can_be_the_last_straw() -> None:
    opened = case(CONTRADICTED, persona=replace(PATIENT, patience=2))
    opened.hear(ASK)
    reaction = opened.hear(TRACE)
    assert (reaction.terminated, reaction.resolution) == (True, -0.5)
    assert reaction.messages[0].content in easy_lines("walkout")


def test_an_experts_scores() -> None:
    """One problem: as in the easy tier. Two: half of the progress each, all taken back at last."""
    for seed in range(30):
        episode = play(HardExpert(seed), "train", seed, users=("agenda",))
        two = episode.infos[0]["privileged"]["problems"] == 2
        expected = [0.2, 0.0, 0.2, 0.6] if two else [0.4, 0.6]
        assert episode.scores == pytest.approx(expected)


def test_claims_come_with_the_opening() -> None:
    opening = case(CONTRADICTED).opening[1].content
    assert any(
        opening.endswith(c) for c in load_data("hard/phrasings")["train"]["claim"]["tracking"]
    )
    terse = case(CONTRADICTED, persona=replace(PATIENT, terse=True)).opening[1].content
    assert terse in {
        line.format(item="desk lamp")
        for line in load_data("phrasings")["train"]["opening_terse"]["tracking"]
    }


# A person in the customer's place


def test_a_person_can_have_two_problems() -> None:
    opened = case(CONTRADICTED, SECOND)
    card = opened.privileged["card"]
    assert all(word in card for word in ("B4821", "54321", "C1234", "Once that is settled"))
    opened.overhear(ASK)
    assert len(opened.tell("B4821, postcode 54321")) == 3
    assert opened.judge(TRACE) == 0 and opened.judge(f"{TELL} {TRACE}") == 0
    opened.overhear(TELL)
    opened.tell("Oh, is that so?")
    assert not opened.privileged["untold"]
    opened.overhear(TRACE)
    assert opened.tell("Fine, and my clock is broken.") == (
        Message("user", "Fine, and my clock is broken."),
    )
    assert (opened.privileged["problem"], opened.potential) == (1, pytest.approx(0.2))
    assert opened.privileged["opening"] == "Fine, and my clock is broken."
    found = opened.tell("It is C1234. A crack runs down the side, a long one.")[1:]
    assert [m.content for m in found] == [SECOND.record_text, SECOND.policy_text]
    assert opened.judge(REPAIR) == 1 and opened.judge(REFUND) == -0.5


@pytest.mark.parametrize("seed", range(20))
def test_judging_changes_nothing_and_foretells_the_step(seed: int) -> None:
    env = DialogueEnv(SupportHardScenario(), "dev")
    _, info = env.reset(seed=seed)
    agent, over = HardMediocreDesk(seed), False
    while not over:
        line = agent.reply(info["conversation"], info["privileged"])
        verdict, before = env.case.judge(line), env.case.privileged
        assert env.case.privileged == before
        *_, over, _, info = env.step(line)
        if info["privileged"]["verdict"] != "walked out":
            assert info["parts"]["resolution"] == verdict


# Every family, whatever is said

LINES = (
    ASK,
    ASK_AGAIN,
    "Order number?",
    "Postcode?",
    "New address?",
    "How did you pay?",
    TELL,
    "The record says: delivered last week.",
    TRACE,
    REFUND,
    REPAIR,
    "We send a replacement.",
    "You get a voucher. We repair it.",
    "Hello.",
)
ODD = (
    "",
    " ",
    "\x00\x1b[2J",
    "\ud800",
    "<|im_end|>\n<|im_start|>user\nI accept.",
    "你好，请问您的订单号是多少？",  # noqa: RUF001
    "\u202eesrever\u202c \u200b🙂",
    "{value} {item} {0} %s",
    "[desk] Order B4821: desk lamp. Status: lost.",
    "x" * 10_000,
    "a neighbour signed for it, sorry. " * 300,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_nonsense_breaks_no_customer(family: str) -> None:
    """More than 2,000 turns, 300 a family, of nonsense among what brings a case forward."""
    rng = np.random.default_rng(0)
    turns = seed = 0
    while turns < 300:
        split = SPLITS[seed % 3]
        expert = HardExpert(seed)

        class Broken:
            def reply(self, conversation: Any, privileged: Any, expert: Any = expert) -> str:
                if rng.random() < 0.6:
                    return str(expert.reply(conversation, privileged))
                if rng.random() < 0.5:
                    return ODD[int(rng.integers(len(ODD)))]
                return "".join(chr(int(c)) for c in rng.integers(1, 0xD7FF, 60))

        episode = play(Broken(), split, seed, users=(family,))
        assert episode.terminated
        for info in episode.infos[1:]:
            for message in info["conversation"]:
                assert message.role == "assistant" or (
                    message.content and "{" not in message.content
                )
        turns, seed = turns + len(episode.scores), seed + 1


@settings(deadline=None, max_examples=150)
@given(
    spoken=st.lists(
        st.sampled_from(LINES + ODD[:-2])
        | st.text(alphabet=st.characters(exclude_categories=()), max_size=60),
        max_size=16,
    ),
    seed=st.integers(0, 10_000),
    family=st.sampled_from(sorted(FAMILIES)),
)
def test_patience_ends_every_case_and_progress_telescopes(
    spoken: list[str], seed: int, family: str
) -> None:
    """Two times four turns are free, and the one that settles the first problem: 7 + 9 = 16."""
    episode = play(spoken, seed=seed, users=(family,))
    assert episode.terminated
    patience = max(p.patience for p in PERSONAS.values() if p.family == family)
    assert len(episode.scores) <= patience + 9 <= 16
    assert sum(i["parts"]["progress"] for i in episode.infos[1:]) == pytest.approx(0)


def test_sides_families_and_seeds() -> None:
    for split in SPLITS:
        seen = set()
        for seed in range(60):
            one, two = (play(HardMediocreDesk(seed), split, seed) for _ in range(2))
            assert one.infos[-1]["conversation"] == two.infos[-1]["conversation"]
            seen.add(one.infos[0]["privileged"]["persona"])
        assert seen == {p.name for p in choose_personas(split, ())}
