"""What the support desk can read up and look up, and the desk that lives by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlchat_envs import SPLITS, DialogueEnv, Message, Scenario
from rlchat_envs.knowledge import DocumentLookup, GraphLookup, Triple
from rlchat_envs.scenarios.support import SupportHardScenario, SupportScenario
from rlchat_envs.scenarios.support.goals import INTENTS, RESOLUTIONS, load_data
from rlchat_envs.scenarios.support.graph_agent import KnowledgeGraphDesk, easy_linker, read_books
from rlchat_envs.scenarios.support.hard.graph_agent import (
    HardKnowledgeGraphDesk,
    excepted,
    since_offer,
)
from rlchat_envs.wrappers.knowledge import KnowledgeWrapper

TIERS: dict[str, tuple[Scenario, Any]] = {
    "easy": (SupportScenario(), KnowledgeGraphDesk),
    "hard": (SupportHardScenario(), HardKnowledgeGraphDesk),
}
RECORD = Message("tool", "Order B4821: desk lamp, Amelia Gupta. Status: sold out. Outlet order.")
POLICY = Message(
    "tool",
    "Policy on exchanges: in stock: exchange it; sold out: full refund. "
    "Exception: outlet orders: store credit.",
)


def opened(tier: str, split: str = "dev", seed: int = 0) -> Any:
    env = DialogueEnv(TIERS[tier][0], split)
    env.reset(seed=seed)
    return env.case


@pytest.mark.parametrize("tier", TIERS)
def test_the_handbook_has_a_page_for_every_intent(tier: str) -> None:
    for seed in range(50):
        case = opened(tier, seed=seed)
        pages = case.documents
        assert len(pages) == len(INTENTS)
        assert sum(case.privileged["shop"] in page.source for page in pages) == len(INTENTS)
        policy = case.sought[0]
        assert [page.text.startswith(policy) for page in pages].count(True) == 1
        assert pages == case.documents  # drawn once an episode


def test_other_pages_are_drawn_anew_in_every_episode() -> None:
    texts = [{p.title: p.text for p in opened("easy", seed=s).documents} for s in range(40)]
    for title in texts[0]:
        assert len({text[title] for text in texts}) > 1 or title == "Address changes"


def test_the_graph_knows_needs_and_rules() -> None:
    case = opened("easy", "train", 3)
    privileged, triples = case.privileged, case.triples
    page = load_data("handbook")[privileged["intent"]]
    source = f"{privileged['shop']} handbook, {page['title'].lower()}"
    status, right = privileged["status"], RESOLUTIONS[privileged["resolution"]]
    assert Triple(page["called"], status, right, source) in triples
    assert Triple(page["called"], "needs", "order number", source) in triples
    assert case.sought == (
        case.goal.policy_text,
        f"{page['called']} -> {status} -> {right}",
    )
    assert {t.subject for t in triples} == {p["called"] for p in load_data("handbook").values()}


@pytest.mark.parametrize("tier", TIERS)
def test_the_policy_is_sought_until_it_is_on_the_table(tier: str) -> None:
    scenario, desk = TIERS[tier]
    env = DialogueEnv(scenario, "dev")
    for seed in range(20):
        _, info = env.reset(seed=seed)
        agent, over = desk(seed), False
        while not over:
            assert bool(env.case.sought) == (not info["privileged"]["has_policy"])
            *_, over, _, info = env.step(agent.reply(info["conversation"], {}))


def test_a_handbook_changes_nothing_that_is_said() -> None:
    one, two = (DialogueEnv(SupportScenario(), "dev") for _ in range(2))
    for seed in range(20):
        one.reset(seed=seed), two.reset(seed=seed)
        assert len(one.case.documents) == 8
        line = "May I have your order number and the postcode, please?"
        assert one.step(line)[0] == two.step(line)[0]


@pytest.mark.long
def test_the_page_tells_how_often_an_opening_finds_the_policy() -> None:
    """Openings of unseen customers share few words with a handbook."""
    page = Path(__file__).parents[4] / "docs" / "worlds" / "support-v0.md"
    rows = []
    for name, lookup in (("documents, BM25", DocumentLookup()), ("graph", GraphLookup())):
        hits = []
        for tier in TIERS:
            env = KnowledgeWrapper(DialogueEnv(TIERS[tier][0], "test"), lookup)
            hits.append(sum(env.reset(seed=s)[1]["knowledge"]["hits"] for s in range(200)) / 2)
        rows.append(f"| {name} | " + " | ".join(f"{hit:.1f}%" for hit in hits) + " |")
    print("\n" + "\n".join(rows))
    assert set(rows) <= set(page.read_text("utf-8").splitlines())


# The classical desk


def test_what_the_desk_reads() -> None:
    books = read_books((RECORD, POLICY))
    assert (books.status, books.note, books.subject) == ("sold out", "Outlet order.", "exchanges")
    assert books.policies == {"exchanges": {"in stock": "exchange", "sold out": "refund"}}
    assert books.rule("exchange") == "refund" and books.rule("wrong_item") == ""
    assert excepted(books) == "store_credit"
    books.note = "Bought in the web shop."
    assert excepted(books) == ""


def test_a_users_words_are_no_books() -> None:
    assert (
        read_books((Message("user", RECORD.content), Message("user", POLICY.content))).rule(
            "exchange"
        )
        == ""
    )


def test_the_status_narrows_the_intent() -> None:
    opening = Message("user", "Where is my parcel?")
    linker = easy_linker()
    assert linker.link((opening,), read_books(())) == "tracking"
    assert linker.link((opening, RECORD), read_books((RECORD,))) in ("exchange", "wrong_item")
    books = read_books((opening, RECORD, POLICY))
    assert linker.link((opening, RECORD, POLICY), books) == "exchange"
    assert linker.missing("exchange", books) == []


def test_a_looked_up_page_will_do_where_the_status_leaves_no_doubt() -> None:
    linker = easy_linker()
    lost = Message("tool", "Order B4821: desk lamp, A. B. Status: lost.")
    page = Message("tool", "Found in handbook: Policy on deliveries: lost: full refund.")
    assert linker.missing("tracking", read_books((lost, page))) == []
    assert linker.missing("tracking", read_books((lost,))) == ["postcode"]
    found = Message("tool", f"Found in handbook: {POLICY.content}")
    assert linker.missing("exchange", read_books((RECORD, found))) == ["variant"]


def test_a_detail_refused_twice_is_not_asked_for_again() -> None:
    opening = Message("user", "Where is my parcel?")
    asked = Message("assistant", "Which postcode is it going to, please?")
    linker, books = easy_linker(), read_books(())
    assert linker.link((opening, asked), books) == "tracking"
    assert linker.link((opening, asked, asked), books) != "tracking"


def test_an_offer_ends_a_problem() -> None:
    offer, then = Message("assistant", "We exchange it."), Message("user", "And another thing.")
    looked_up = Message("tool", f"Found in handbook: {POLICY.content}")
    assert since_offer((RECORD, POLICY, offer, then, looked_up)) == (then,)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("split", SPLITS)
def test_the_desk_never_reads_what_is_hidden_and_solves_most(tier: str, split: str) -> None:
    scenario, desk = TIERS[tier]
    env, solved = DialogueEnv(scenario, split), []
    for seed in range(60):
        _, info = env.reset(seed=seed)
        agent, over = desk(seed), False
        while not over:
            *_, over, _, info = env.step(agent.reply(info["conversation"], {}))
        solved.append(info["success"])
    assert np.mean(solved) >= 0.9
