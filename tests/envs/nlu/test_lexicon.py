"""What customers understand. The paraphrases were written before the understanding was."""

from __future__ import annotations

import json
import time
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlchat_envs.nlu.lexicon import MAX_LENGTH, Heard
from rlchat_envs.scenarios.support.goals import INTENTS, RESOLUTIONS, SLOTS, load_data
from rlchat_envs.scenarios.support.nlu import LEXICON

PARAPHRASES = Path(__file__).parents[1] / "data" / "paraphrases.jsonl"
WORDING = load_data("wording")
STATUSES = ["all clear", *sorted({s for i in INTENTS.values() for s in i.outcomes})]
BEFORE = ["", *WORDING["say"]["sorry"], *WORDING["say"]["again"]]


def acts(text: str) -> tuple[set[str], set[str]]:
    heard = LEXICON.understand(text)
    return set(heard.asks), set(heard.offers)


def test_paraphrases_are_understood() -> None:
    lines = [json.loads(line) for line in PARAPHRASES.read_text("utf-8").splitlines()]
    missed = [
        (line, heard)
        for line in lines
        if (heard := acts(line["text"])) != (set(line["asks"]), set(line["offers"]))
    ]
    for line, (asks, offers) in missed:
        print(f"missed: {line['text']}\n  meant {line['asks']} {line['offers']}")
        print(f"  heard {sorted(asks)} {sorted(offers)}")
    share = 1 - len(missed) / len(lines)
    print(f"understood {share:.1%} of {len(lines)}")
    assert len(lines) > 150
    assert share >= 0.9


@pytest.mark.parametrize("manner", ["kind", "curt"])
def test_every_question_of_the_desks_is_understood(manner: str) -> None:
    assert set(WORDING["ask"][manner]) == set(SLOTS)
    for slot, lines in WORDING["ask"][manner].items():
        for line, before in product(lines, BEFORE):
            assert acts(f"{before} {line}") == ({slot}, set()), (before, line)


def test_every_double_question_is_understood() -> None:
    both = WORDING["both"]
    for detail in sorted({i.detail for i in INTENTS.values()}):
        for start, end, before in product(both["start"], both["end"], BEFORE):
            line = f"{before} {start} {both['order_number']} and {both[detail]}{end}"
            assert acts(line) == ({"order_number", detail}, set()), line
            assert LEXICON.understand(line).questions == 2


@pytest.mark.parametrize("manner", ["kind", "curt"])
def test_every_offer_of_the_desks_is_understood_after_every_status(manner: str) -> None:
    assert set(WORDING["offer"][manner]) == set(RESOLUTIONS)
    said = ["", *(s.format(status=x) for s in WORDING["say"]["status"] for x in STATUSES)]
    for resolution, lines in WORDING["offer"][manner].items():
        for line, before in product(lines, said):
            assert acts(f"{before} {line}") == (set(), {resolution}), (before, line)


def test_a_refusal_cancels_its_own_clause_only() -> None:
    assert acts("We cannot refund it, but we will send a voucher.") == (set(), {"voucher"})
    assert acts("I cannot give you a refund.") == (set(), set())
    assert acts("I can offer you a voucher instead of a refund.") == (set(), {"voucher"})


def test_spelling_is_mended() -> None:
    assert acts("whats your order nubmer?") == ({"order_number"}, set())
    assert acts("You get a full refnud.") == (set(), {"refund"})


def test_questions_are_facts_or_question_marks() -> None:
    assert LEXICON.understand("Order number and postcode, please.").questions == 2
    assert LEXICON.understand("Really? Truly? Is that so?").questions == 3
    assert LEXICON.understand("Hello.").questions == 0


def test_nobody_reads_a_novel() -> None:
    assert not LEXICON.understand("refund " * (MAX_LENGTH // 7)).too_long
    assert LEXICON.understand("x" * (MAX_LENGTH + 1)) == Heard(too_long=True)


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=200))
def test_any_text_can_be_heard(text: str) -> None:
    heard = LEXICON.understand(text)
    assert set(heard.asks) <= set(SLOTS)
    assert set(heard.offers) <= set(RESOLUTIONS)
    assert heard.questions >= len(heard.asks)


@pytest.mark.parametrize("piece", [" ", "thanks for ", "#", "\ufdfa", ", ", "send new ", " -", "a"])
def test_no_text_takes_long_to_read(piece: str) -> None:
    """Patterns that backtrack must stay polynomial, and small, in what a customer reads."""
    start = time.perf_counter()
    LEXICON.understand((piece * MAX_LENGTH)[:MAX_LENGTH])
    assert time.perf_counter() - start < 2.0
