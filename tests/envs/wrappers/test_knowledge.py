"""What is looked up, how it comes into the observation, and how it is counted."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from rlchat_envs import Conversation, DialogueEnv, Message, Reaction
from rlchat_envs.knowledge import Document, DocumentLookup, GraphLookup, Triple
from rlchat_envs.knowledge.lookup import document_query
from rlchat_envs.wrappers.knowledge import KnowledgeWrapper, hit_rate

DOCUMENTS = (
    Document("Bond fund", "The bond fund lends to states. It costs 0.45% a year.", "bonds.md"),
    Document("Savings plan", "You pay in 25 euros a month, or more, into a plan.", "plan.md"),
    Document("Opening hours", "The branch opens at nine and closes at five.", "hours.md"),
)
TRIPLES = (
    Triple("bond fund", "risk class", "2", "funds.tsv"),
    Triple("bond fund", "managed by", "Norden House", "funds.tsv"),
    Triple("Norden House", "seat", "Århus", "firms.tsv"),
)
# What the user says and what would answer it.
COST = ("What does the bond fund cost a year?", ("0.45%", "45 cents"))
RISK = ("And how much risk is in the bond fund?", ("risk class -> 2",))
CAPITAL = ("What is the capital of Peru?", ("Lima",))
AGAIN = ("Sorry, what did you say the bond fund costs a year?", ("costs  0.45%",))
THANKS = ("Thank you.", ())
SCRIPT = (COST, RISK, CAPITAL, THANKS, AGAIN)


@dataclass
class ToyCase:
    """A user who says a line a turn."""

    script: tuple[tuple[str, tuple[str, ...]], ...]
    documents: tuple[Document, ...] = DOCUMENTS
    triples: tuple[Triple, ...] = TRIPLES
    at: int = 0
    potential: float = 0.0
    success: bool = False
    solution: str = ""
    privileged: Mapping[str, Any] = field(default_factory=dict)

    @property
    def opening(self) -> Conversation:
        return (Message("system", "A bank."), Message("user", self.script[0][0]))

    @property
    def sought(self) -> tuple[str, ...]:
        return self.script[self.at][1]

    def hear(self, text: str) -> Reaction:
        self.at += 1
        if self.at == len(self.script):
            return Reaction((Message("user", "Goodbye, bond fund."),), terminated=True)
        record = Message("tool", f"Turn {self.at}.")
        return Reaction((Message("user", self.script[self.at][0]), record))

    def tell(self, text: str) -> Conversation:
        return (Message("user", text),)

    def judge(self, text: str) -> float:
        return 0.0


@dataclass
class Toy:
    """Lines in an order of the seed's, or as they are."""

    shuffled: bool = False
    agents: Mapping[str, Any] = field(default_factory=dict)
    optimum: float | None = None

    def begin(self, rng: np.random.Generator, split: str, users: tuple[str, ...]) -> ToyCase:
        order = rng.permutation(len(SCRIPT)) if self.shuffled else range(len(SCRIPT))
        return ToyCase(tuple(SCRIPT[i] for i in order))


class Said:
    """A scorer that remembers what it was shown."""

    def __init__(self) -> None:
        self.before: list[Conversation] = []

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        self.before.append(conversation)
        return {}


def wrapped(shuffled: bool = False, **kwargs: Any) -> KnowledgeWrapper:
    env = DialogueEnv(Toy(shuffled), **kwargs)
    return KnowledgeWrapper(env, DocumentLookup(), GraphLookup())


def user(*lines: str) -> Conversation:
    return tuple(Message("user", line) for line in lines)


def test_what_is_found_stands_in_the_observation_with_its_source() -> None:
    env = wrapped()
    observation, info = env.reset(seed=0)
    document = "[desk] Found in bonds.md: The bond fund lends to states. It costs 0.45% a year."
    facts = ["bond fund -> risk class -> 2", "bond fund -> managed by -> Norden House"]
    lines = [COST[0], document, *(f"[desk] Known: {fact} (funds.tsv)" for fact in facts)]
    assert observation.splitlines() == lines
    assert [m.role for m in info["conversation"]] == ["system", "user", "tool", "tool", "tool"]
    assert info["knowledge"] == {"looked_up": 1, "found": 3, "hits": 1, "sought": 1}


def test_hits_by_hand() -> None:
    """Cost and risk are found; Lima is not; thanks seek nothing; the cost was found before."""
    env = wrapped()
    _, info = env.reset(seed=0)
    counts, seen = [info["knowledge"]], []
    for _ in SCRIPT:
        observation, score, terminated, truncated, info = env.step("Well.")
        assert (type(score), truncated) == (float, False)
        counts.append(info["knowledge"])
        seen.append(observation)
    assert [c["sought"] for c in counts] == [1, 2, 3, 3, 4, 4]
    assert [c["hits"] for c in counts] == [1, 2, 2, 2, 3, 3]
    assert [c["found"] for c in counts] == [3, 3, 3, 3, 3, 3]
    assert [c["looked_up"] for c in counts] == [1, 2, 3, 4, 5, 5]
    assert seen == [f"{SCRIPT[i][0]}\n[desk] Turn {i}." for i in range(1, 5)] + [
        "Goodbye, bond fund."
    ]
    assert terminated
    assert hit_rate(counts[0]) == 1.0
    assert hit_rate(counts[-1]) == 3 / 4
    assert hit_rate({"hits": 0, "sought": 0}) is None


def test_the_environment_and_its_scorer_know_nothing_of_it() -> None:
    ours, theirs = Said(), Said()
    env = KnowledgeWrapper(DialogueEnv(Toy(), scorer=ours), DocumentLookup())
    plain = DialogueEnv(Toy(), scorer=theirs)
    env.reset(seed=1)
    plain.reset(seed=1)
    for _ in range(3):
        info, clean = env.step("Well.")[4], plain.step("Well.")[4]
        assert len(info["conversation"]) == len(clean["conversation"]) + 1
        for key in ("parts", "success", "turn", "privileged"):
            assert info[key] == clean[key]
    assert ours.before == theirs.before


def test_gymnasium_accepts_the_wrapped_environment() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # It recommends the environment inside, and knows no id of this one.
        warnings.filterwarnings("ignore", ".*(different from the unwrapped|not having a spec).*")
        check_env(wrapped(shuffled=True))


@settings(deadline=None, max_examples=60)
@given(
    lines=st.lists(st.text(max_size=30) | st.sampled_from([COST[0], RISK[0]]), max_size=6),
    seed=st.integers(0, 1000),
    max_turns=st.integers(1, 6),
)
def test_a_conversation_only_grows_and_the_seed_decides_it(
    lines: list[str], seed: int, max_turns: int
) -> None:
    env, twin = wrapped(True, max_turns=max_turns), wrapped(True, max_turns=max_turns)
    observation, info = env.reset(seed=seed)
    assert twin.reset(seed=seed) == (observation, info)
    inner = info["conversation"][:2]
    for line in lines:
        before = info["conversation"]
        observation, _, terminated, truncated, info = last = env.step(line)
        assert twin.step(line) == last
        after = info["conversation"]
        assert after[: len(before)] == before
        new = after[len(before) :]
        assert [m.role for m in new[:2]] == ["assistant", "user"]
        assert all(m.role == "tool" for m in new[2:])
        assert observation.count("[desk] ") == len(new[2:])
        inner += new
        if terminated or truncated:
            break
    known = [m for m in inner if m.content.startswith(("Found in ", "Known: "))]
    assert len(set(known)) == len(known)


def test_containers_in_info_are_fresh_each_call() -> None:
    env = wrapped()
    _, info = env.reset(seed=0)
    info["knowledge"]["hits"] = 99
    assert env.step("Well.")[4]["knowledge"]["hits"] == 2


def test_a_new_episode_starts_from_nothing() -> None:
    env = wrapped()
    first = env.reset(seed=0)
    env.step("Well.")
    assert env.reset(seed=0) == first


def test_only_dialogues_are_wrapped_and_only_once() -> None:
    with pytest.raises(ValueError, match="expected a DialogueEnv or a wrapper over one; got"):
        KnowledgeWrapper(gym.make("CartPole-v1"), DocumentLookup())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one KnowledgeWrapper with all lookups; got another"):
        KnowledgeWrapper(wrapped(), GraphLookup())
    with pytest.raises(ValueError, match="got no lookup"):
        KnowledgeWrapper(DialogueEnv(Toy()))
    with pytest.raises(ValueError, match="expected max_words of at least 1; got 0"):
        GraphLookup(max_words=0)
    with pytest.raises(ValueError, match="expected k of at least 1; got 0"):
        DocumentLookup(k=0)


def test_a_registered_environment_is_wrapped_too() -> None:
    own = [Document("Parcels", "Parcels arrive within three days. Damaged ones too.", "x.txt")]
    env = KnowledgeWrapper(gym.make("rlchat/Support-v0"), DocumentLookup(own))
    _, info = env.reset(seed=0)
    assert info["knowledge"]["sought"] == 1  # the policy, which is not among these documents
    assert info["knowledge"]["hits"] == 0
    assert env.step("Hello?")[4]["knowledge"]["looked_up"] == 2


def test_a_short_message_is_read_with_the_opening() -> None:
    assert document_query(user("I want the bond fund.", "And the costs?")) == (
        "And the costs?\nI want the bond fund."
    )
    telling = "What do bond funds cost each year?"
    assert document_query(user("Hello, a plan please.", telling)) == telling
    assert document_query(user("a plan", "Thanks!")) == ""
    assert document_query(user("costs?")) == "costs?"
    assert document_query((Message("system", "bond fund"),)) == ""
    long = document_query(user("plan " * 50, "costs?"))
    assert long == "costs?\n" + " ".join(["plan"] * 40) + "…"


def test_documents_are_read_on_but_never_twice() -> None:
    text = "The bond fund lends to states. It costs 0.45% a year. Selling the bond fund is free."
    lookup = DocumentLookup([Document("", text, "b.md"), *DOCUMENTS[1:]], max_words=6)
    lookup.begin(None)
    asked = user("What does it cost a year?")
    assert lookup.find(asked) == (Message("tool", "Found in b.md: It costs 0.45% a year."),)
    assert lookup.find(asked) == ()
    asked += user("Is selling the bond fund free?")
    assert [m.content for m in lookup.find(asked)] == [
        "Found in b.md: Selling the bond fund is free."
    ]
    lookup.begin(None)
    assert len(lookup.find(asked[:1])) == 1


def test_facts_are_shown_once_even_inside_another_path() -> None:
    lookup = GraphLookup(TRIPLES)
    lookup.begin(None)
    found = lookup.find(user("Where is the seat of the bond fund?"))
    path = "bond fund -> managed by -> Norden House -> seat -> Århus"
    assert found == (Message("tool", f"Known: {path} (funds.tsv, firms.tsv)"),)
    assert lookup.find(user("Who manages the bond fund?")) == ()
    talk = (*user("Tell me of the bond fund"), Message("assistant", "Yes?"), *user("Any risk?"))
    assert [m.content for m in lookup.find(talk)] == [
        "Known: bond fund -> risk class -> 2 (funds.tsv)"
    ]
    assert lookup.find(()) == ()


def test_long_facts_are_cut() -> None:
    lookup = GraphLookup([Triple("bond fund", "note", "one two three four", "")], max_words=6)
    lookup.begin(None)
    assert lookup.find(user("bond fund"))[0].content == "Known: bond fund -> note -> one…"


def test_what_a_case_brings_may_change_with_the_episode() -> None:
    documents, graph = DocumentLookup(), GraphLookup()
    for case in (ToyCase(SCRIPT), ToyCase(SCRIPT, (), ()), ToyCase(SCRIPT), None):
        documents.begin(case)
        graph.begin(case)
        expected = 1 if case is not None and case.documents else 0
        assert len(documents.find(user(COST[0]))) == expected
        assert len(graph.find(user(RISK[0]))) == expected


def test_long_and_foreign_messages_do_no_harm() -> None:
    documents, graph = DocumentLookup(DOCUMENTS), GraphLookup(TRIPLES)
    for text in ("x" * 10_000, "bond fund cost " * 667, "基金 🙂 \ud800 ﷺ\x00" * 1_000, " \n"):
        documents.begin(None)
        graph.begin(None)
        assert len(documents.find(user("Hello", text))) <= 2
        assert len(graph.find(user("Hello", text))) <= 3


def test_importing_knowledge_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'transformers', 'rdflib', 'networkx', 'bm25s'}"
    code = f"import sys, rlchat_envs.knowledge; print(sorted({heavy} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_the_documentations_examples_run() -> None:
    page = Path(__file__).parents[3] / "docs" / "worlds" / "knowledge.md"
    tried = doctest.testfile(str(page), module_relative=False)
    assert (tried.failed, tried.attempted) == (0, 5)
