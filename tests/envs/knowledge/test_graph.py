"""Triples read from files, things found in free text, and answers on one and two hops."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlchat_envs.knowledge import Graph, Triple, read_triples
from rlchat_envs.knowledge.linking import Mention, Names
from rlchat_envs.nlu.words import words

FACTS = """
bond fund | yearly cost | 0.45%
bond fund | entry cost | 1%
bond fund | risk class | 2
bond fund | managed by | Norden House
Norden House | seat | Århus
Norden House | also called | NH Invest
share fund | yearly cost | 0.2%
savings plan | invests in | share fund
savings plan | smallest rate | 25 euros
migraine | symptom | headache
migraine | symptom | nausea
flu | symptom | headache
migraine | treated by | triptan
triptan | daily limit | 2 tablets
""".strip()
TRIPLES = tuple(Triple(*line.split(" | "), f"f{i}") for i, line in enumerate(FACTS.splitlines()))
GRAPH = Graph(TRIPLES)


def answers(text: str, k: int = 3, earlier: tuple[str, ...] = ()) -> list[str]:
    return [str(path) for path in GRAPH.answer(text, k, earlier)]


def test_things_are_found_whatever_their_case_accents_and_number() -> None:
    assert GRAPH.link("BOND FUNDS or the Share-fund?") == ("bond fund", "share fund")
    assert GRAPH.link("Who lives in arhus?") == ("arhus",)
    assert GRAPH.link("nh invest and Norden House") == ("norden house",)
    assert GRAPH.link("2 tablet") == ("2 tablets",)
    assert GRAPH.link("a bondfund, a vagabond fund, 0.45%, 2") == ()


def test_the_longest_name_is_meant_and_words_are_used_once() -> None:
    names = Names([("fund", "f"), ("bond fund", "bf"), ("The fund of funds", "ff"), ("it", "it")])
    said = words("Is the bond fund it, a fund of funds or the bond?")
    assert names.find(said) == [Mention("bf", 2, 4), Mention("ff", 6, 9)]
    twice = Names([("fund", "first"), ("Funds", "second"), ("42", "number"), ("...", "dots")])
    assert [m.thing for m in twice.find(words("42 funds ..."))] == ["first"]


@pytest.mark.parametrize("typed", ["migrane", "migrainne", "migriane", "migraiine", "migrajne"])
def test_one_slip_in_a_long_word_is_forgiven(typed: str) -> None:
    assert GRAPH.link(f"my {typed}s are back") == ("migraine",)


@pytest.mark.parametrize(
    "other", ["nigraine", "migrrainne", "fulu", "bont fund", "tripod", "housen", "noredn hause"]
)
def test_two_slips_a_wrong_first_letter_or_a_short_word_are_not(other: str) -> None:
    assert GRAPH.link(other) == ()


def test_a_word_that_some_name_has_is_never_mended() -> None:
    names = Names([("policy", "policy"), ("police", "police"), ("savings", "savings")])
    assert [m.thing for m in names.find(["police", "policy", "saving"])] == [
        *("police", "policy", "savings")
    ]


def test_one_hop() -> None:
    assert answers("What does the bond fund cost a year?") == ["bond fund -> yearly cost -> 0.45%"]
    assert answers("What does the bond fund cost?") == [
        "bond fund -> yearly cost -> 0.45%",
        "bond fund -> entry cost -> 1%",
    ]
    assert answers("How risky is it, the bond fund, and who manages it?") == [
        "bond fund -> managed by -> Norden House",
        "bond fund -> risk class -> 2",
    ]
    assert answers("What is a symptom of flu?") == ["flu -> symptom -> headache"]


def test_one_hop_backwards() -> None:
    """Both diseases have the symptom; named alone it leads to those with most of what is named."""
    assert answers("Of what is headache a symptom?") == [
        "migraine -> symptom -> headache",
        "flu -> symptom -> headache",
    ]
    assert answers("I have a headache and nausea", k=2) == [
        "migraine -> symptom -> headache",
        "migraine -> symptom -> nausea",
    ]
    assert answers("Anything in Aarhus? Or Århus?") == ["Norden House -> seat -> Århus"]


def test_two_hops() -> None:
    assert answers("Where is the seat of whoever runs the bond fund?") == [
        "bond fund -> managed by -> Norden House -> seat -> Århus"
    ]
    assert answers("What is the yearly cost of the savings plan?") == [
        "savings plan -> invests in -> share fund -> yearly cost -> 0.2%"
    ]
    assert answers("My migraine is treated. What is the limit a day?") == [
        "migraine -> treated by -> triptan -> daily limit -> 2 tablets"
    ]


def test_two_things_are_joined_by_a_path() -> None:
    assert answers("Is the savings plan the same as the share fund?") == [
        "savings plan -> invests in -> share fund"
    ]
    assert answers("Is the bond fund made in Århus?") == [
        "bond fund -> managed by -> Norden House -> seat -> Århus"
    ]


def test_a_thing_alone_brings_its_most_relevant_facts() -> None:
    assert answers("Tell me about the bond fund", k=2) == [
        "bond fund -> yearly cost -> 0.45%",
        "bond fund -> entry cost -> 1%",
    ]
    assert answers("I have 30 euros for a savings plan.")[0] == (
        "savings plan -> smallest rate -> 25 euros"
    )


def test_it_is_what_was_spoken_of_last() -> None:
    earlier = ("Fine.", "I suggest the share fund.", "Is the bond fund for me?")
    assert answers("What does it cost a year?", earlier=earlier) == [
        "share fund -> yearly cost -> 0.2%"
    ]
    assert answers("Thank you!", earlier=earlier) == []
    assert answers("What does it cost a year?") == []


def test_a_path_shows_each_source_once() -> None:
    path = GRAPH.answer("seat of the bond fund's house")[0]
    assert [t.source for t in path.triples] == ["f3", "f4"]
    assert path.source == "f3, f4"
    one = Graph([Triple("a1", "leads to", "b1", "x"), Triple("b1", "costs", "c1", "x")])
    assert one.answer("What costs a1?")[0].source == "x"


def test_a_circle_is_walked_once() -> None:
    circle = Graph([Triple("ant", "eats", "bee", ""), Triple("bee", "eats", "ant", "")])
    assert [str(p) for p in circle.answer("What eats the ant?")] == [
        "ant -> eats -> bee",
        "bee -> eats -> ant",
    ]
    assert Graph([]).answer("What eats the ant?") == []


@given(st.text(max_size=80) | st.lists(st.sampled_from(words(FACTS))).map(" ".join))
def test_any_text_gets_whole_paths_in_one_order(text: str) -> None:
    found = GRAPH.answer(text, k=4)
    assert found == Graph(TRIPLES).answer(text, k=4)
    assert len(found) <= 4
    for path in found:
        assert set(path.triples) <= set(TRIPLES)
        assert all(a.object == b.subject for a, b in zip(path.triples, path.triples[1:]))  # noqa: B905


def test_long_and_foreign_texts_do_no_harm() -> None:
    for text in ("bond fund " * 1_000, "migraiin" * 1_250, "基金 🙂 \ud800 ﷺ " * 1_000):
        assert len(GRAPH.answer(text, earlier=[text])) <= 3


def test_a_tsv_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "funds.tsv"
    file.write_text(
        "\ufeffSubject\tRelation\tObject\tSource\r\n# costs\r\n\r\n"
        "bond  fund\tyearly cost\t0.45%\tprospectus\r\nshare fund\tseat\tÅrhus\r\n"
        "plan\trate\t25\t\r\n",
        encoding="utf-8",
    )
    assert read_triples(file) == (
        Triple("bond fund", "yearly cost", "0.45%", "prospectus"),
        Triple("share fund", "seat", "Århus", "funds.tsv"),
        Triple("plan", "rate", "25", "funds.tsv"),
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a\tb\tc\na\tb\n", r"columns .* in .*x\.tsv, line 2; got 2; put one tab"),
        (b"a\tb\tc\td\te\n", r"columns .* in .*x\.tsv, line 1; got 5"),
        (b"\na\tb\t \n", r"filled in .*x\.tsv, line 2; got an empty object"),
        (b"a\tb\tc\na\tb\t\xfc\n", r"expected UTF-8 in .*x\.tsv, line 2; got byte 0xfc"),
        (b"# nothing\n", r"expected triples in .*x\.tsv; got none"),
    ],
)
def test_mistakes_in_a_tsv_file_are_named_by_line(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "x.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_triples(tmp_path / "x.tsv")


def test_files_of_triples_have_their_own_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a \.tsv or \.ttl file of triples; got x\.csv"):
        read_triples("x.csv")
    with pytest.raises(ValueError, match=r"expected a file of triples at .*x\.ttl; got none"):
        read_triples(tmp_path / "x.ttl")


TURTLE = """
@prefix : <https://example.org/funds#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .

:yearlyCost a owl:DatatypeProperty .
:Bond_fund a :Fund ; rdfs:label "Rentenfonds"@de, "bond fund"@en ;
    :yearlyCost "0.45%" ; :managedBy :NH ; :note [ :text "nameless" ] .
:NH rdfs:label "Norden House" ; skos:altLabel "NH Invest" ; :seat "Århus"@da .
:managedBy rdfs:label "is run by" .
"""


def test_a_turtle_file_is_read_by_its_labels(tmp_path: Path) -> None:
    file = tmp_path / "funds.ttl"
    file.write_text(TURTLE, encoding="utf-8")
    found = read_triples(file)
    assert [(t.subject, t.relation, t.object) for t in found] == [
        ("Norden House", "also called", "NH Invest"),
        ("Norden House", "seat", "Århus"),
        ("bond fund", "also called", "Rentenfonds"),
        ("bond fund", "is a", "Fund"),
        ("bond fund", "is run by", "Norden House"),
        ("bond fund", "yearly cost", "0.45%"),
    ]
    assert {t.source for t in found} == {"funds.ttl"}
    assert [str(p) for p in Graph(found).answer("Was kostet der Rentenfonds, yearly cost?")] == [
        "bond fund -> yearly cost -> 0.45%"
    ]


def test_a_mistake_in_a_turtle_file_is_named_by_line(tmp_path: Path) -> None:
    file = tmp_path / "x.ttl"
    file.write_text(TURTLE.replace('"0.45%"', '"0.45%'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected Turtle in .*x\.ttl, line \d+; got ") as caught:
        read_triples(file)
    assert "\n" not in str(caught.value)
    file.write_text("@prefix : <urn:x:> .\n:a :b .\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.ttl, line 2; got .*; mend that line"):
        read_triples(file)
    file.write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="expected triples"):
        read_triples(file)
