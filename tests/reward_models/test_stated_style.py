"""Stated styles: drawn, said, followed, and not earned by cheats that were written by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlchat_envs import Message, write_call
from rlchat_envs.core.tools import read_tools
from rlchat_reward_models.stated_style import (
    AXES,
    SIDES,
    check_names,
    draw_style,
    follows,
    hindsight_styles,
    replies_of,
    state_style,
    style_parts,
)
from rlchat_reward_models.stated_style.measures import WEIGHT
from rlchat_reward_models.stated_style.readability import grade_of_reply, syllables
from rlchat_reward_models.stated_style.wording import REQUESTS

FAITHFUL = {
    "brief": "Your order number, please?",
    "detailed": (
        "The record says that your kettle is lost in transit, so the policy allows a full refund "
        "to the card, which arrives within five working days."
    ),
    "formal": "May I ask for your order number? I am going to inform the carrier.",
    "friendly": "Hi! I'd love to look into it. What's your order number?",
    "plain": "I will send you a new one. It will be there in two days.",
    "advanced": "Reimbursement of the entire amount requires confirmation of your payment.",
}
OTHER = {a: b for sides in AXES.values() for a, b in (sides, sides[::-1])}


@pytest.mark.parametrize("side", SIDES)
def test_a_reply_in_the_style_follows_it_and_not_the_other(side: str) -> None:
    reply = FAITHFUL[side]
    assert follows(side, (), reply) > 0.7
    assert follows(OTHER[side], (), reply) < 0.5


@pytest.mark.parametrize(
    ("side", "cheat"),
    [
        *((side, nothing) for side in SIDES for nothing in ("", ".", "!!!", "Yes.", "Thank you!")),
        *((side, "Hi! Great, thanks! Lovely! Happy to help!") for side in SIDES),
        ("brief", "Refund."),
        ("brief", "Please, please, please."),
        ("detailed", "Could you tell me your order number? " * 5),
        ("detailed", "refund " * 40),
        (
            "detailed",
            "Thank you so much for your patience and understanding, we really appreciate it very "
            "much, and we are so happy to help you and to assist you with your trouble.",
        ),
        ("friendly", "Thanks! Thanks! Thanks! Thanks!"),
        ("friendly", "Could you give me your order number! May I ask!"),
        ("formal", "Sir. Sir. Sir. Sir."),
        ("advanced", "reimbursement " * 20),
        ("advanced", "I will give it to you and it will go to you and you can get it " * 4),
        ("plain", "It is so. " * 10),
    ],
)
def test_cheats_are_not_in_the_style(side: str, cheat: str) -> None:
    assert follows(side, (), cheat) <= 0.5 < follows(side, (), FAITHFUL[side])


@pytest.mark.parametrize("side", SIDES)
def test_what_was_said_before_follows_nothing(side: str) -> None:
    said = (Message("user", "Hello"), Message("assistant", FAITHFUL[side]), Message("user", "And?"))
    assert follows(side, said, FAITHFUL[side]) <= 0.5


@given(st.text(max_size=200), st.sampled_from(list(SIDES)))
def test_whatever_is_said_earns_nothing_and_costs_a_bounded_amount(text: str, side: str) -> None:
    assert 0.0 <= follows(side, (), text) <= 1.0
    style = (side, *(sides[0] for axis, sides in AXES.items() if axis != SIDES[side]))
    parts = style_parts(style, (Message("user", "hi"),), text)
    assert set(parts) == {f"stated_{axis}" for axis in AXES}
    assert all(value <= 0.0 for value in parts.values())
    assert sum(parts.values()) >= -WEIGHT - 1e-9


def test_what_is_not_stated_costs_nothing() -> None:
    assert style_parts((), (), "anything") == {}
    parts = style_parts(("brief",), (), "")
    assert parts == {"stated_length": -WEIGHT}


def test_a_call_of_a_function_has_no_style_and_words_beside_it_have() -> None:
    tool = read_tools([{"type": "function", "function": {"name": "look"}}])
    context = (Message("user", "hi", tuple(tool)),)
    call = write_call("look", {})
    assert style_parts(("brief",), context, call) == {"stated_length": 0.0}
    told = (*context, Message("assistant", call), Message("tool", "found"))
    told += (Message("assistant", f"I look it up.{call}"),)
    assert [reply for _, reply in replies_of(told)] == ["I look it up."]


def test_grades_are_those_worked_out_by_hand() -> None:
    # 6 words; 5 different ones of 5 syllables, with 8 of 1.4: 0.39 * 6 + 11.8 * 16.2 / 13 - 15.59
    assert grade_of_reply("The cat sat on the mat.") == pytest.approx(1.4546, abs=1e-4)
    # 2 sentences of 5; 10 words of 14 syllables, with 8 of 1.4: 0.39 * 5 + 11.8 * 1.4 - 15.59
    twice = "I have cancelled the order. You will receive your money!"
    assert grade_of_reply(twice) == pytest.approx(2.88)
    # A sentence of 24 words counts as 15: 0.39 * 15 + 11.8 * (4 + 11.2) / 12 - 15.59
    assert grade_of_reply("the cat and dog " * 6) == pytest.approx(5.2067, abs=1e-4)
    # Nothing but the eight words: 11.8 * 1.4 - 15.59
    assert grade_of_reply("42!") == pytest.approx(0.93)


@pytest.mark.parametrize(
    ("word", "count"),
    [
        *(("table", 2), ("wanted", 2), ("likes", 1), ("loved", 1), ("boxes", 2), ("whole", 1)),
        *(("reimbursement", 4), ("delivery", 4), ("order", 2), ("please", 1), ("it's", 1)),
    ],
)
def test_syllables_are_counted_as_they_are_heard(word: str, count: int) -> None:
    assert syllables(word) == count


def test_any_leaves_a_third_of_each_axis_open_and_shares_the_rest() -> None:
    drawn = [draw_style(("any",), np.random.default_rng(i)) for i in range(1200)]
    counts = Counter(side for style in drawn for side in style)
    assert set(counts) == set(SIDES)
    assert all(320 < count < 480 for count in counts.values())
    assert all(len({SIDES[side] for side in style}) == len(style) for style in drawn)
    assert draw_style(("friendly", "brief"), np.random.default_rng(0)) == ("brief", "friendly")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("breif",), "did you mean brief"),
        (("brief", "detailed"), "expected one stated style, brief or detailed"),
        (("any", "brief"), "expected the stated style any alone"),
    ],
)
def test_names_that_state_no_style_are_refused(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_names(names)
    check_names(("brief", "formal", "plain"))


def test_splits_share_no_sentence() -> None:
    said = [line for sides in REQUESTS.values() for lines in sides.values() for line in lines]
    assert len(set(said)) == len(said)
    assert all(set(sides) == set(SIDES) for sides in REQUESTS.values())


def test_a_style_is_stated_in_the_system_message_which_is_made_if_there_is_none() -> None:
    rng = np.random.default_rng(0)
    told = (Message("system", "Help them."), Message("user", "hi"))
    first, *rest = state_style(told, ("brief",), "dev", rng)
    assert first.content.removeprefix("Help them. ") in REQUESTS["dev"]["brief"]
    assert tuple(rest) == told[1:]
    made = state_style(told[1:], ("brief",), "dev", rng)
    assert made[0].role == "system" and made[1:] == told[1:]
    assert state_style(told, (), "dev", rng) == told


def test_functions_stay_declared_with_the_first_message() -> None:
    tools = tuple(read_tools([{"type": "function", "function": {"name": "look"}}]))
    told = state_style(
        (Message("user", "hi", tools),), ("plain",), "train", np.random.default_rng(0)
    )
    assert told[0].tools == tools and told[1].tools == ()


def test_demonstrations_are_told_the_style_that_they_turned_out_to_have() -> None:
    replies = [FAITHFUL["brief"]] * 3 + ["Which order is it about, and when did it come?"] * 3
    replies += [FAITHFUL["detailed"]] * 3
    told = [(Message("user", "hi"), Message("assistant", reply)) for reply in replies]
    lengths = [[s for s in style if SIDES[s] == "length"] for style in hindsight_styles(told)]
    assert lengths == [["brief"]] * 3 + [[]] * 3 + [["detailed"]] * 3
    assert hindsight_styles(told[:3]) == [(), (), ()]  # all alike: nothing tells them apart
    assert hindsight_styles([]) == []
