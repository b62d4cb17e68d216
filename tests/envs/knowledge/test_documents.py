"""Words, documents and the parts of them that are shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlchat_envs.knowledge import Document, read_folder
from rlchat_envs.knowledge.documents import PASSAGE_WORDS, sentences
from rlchat_envs.knowledge.excerpt import cut, excerpt
from rlchat_envs.nlu.words import fold, singular, stem, stems, words


def test_words_are_folded_and_numbers_stay_whole() -> None:
    assert words("The Fund's Épargne costs 0.45% of 1,250 (v2)") == [
        *("the", "fund", "s", "epargne", "costs", "0.45", "of", "1,250", "v2")
    ]
    assert words("基金 fund税") == ["基", "金", "fund", "税"]
    assert fold(" Straße\n\tNAÏVE ") == "strasse naive"
    assert words("") == words("?! _ …") == []


def test_related_words_share_a_stem_and_small_words_have_none() -> None:
    for family in (
        ("price", "prices", "priced", "pricing"),
        ("pay", "pays", "payment", "payments"),
        ("plan", "planned", "planning"),
        ("year", "yearly", "years"),
        ("manager", "managed", "manages"),
        ("policy", "policies"),
    ):
        assert len({stem(word) for word in family}) == 1, family
    assert stem("gas") == "gas" and stem("0.45") == "0.45" and stem("200") == "200"
    assert stems("Hi there, could you please tell me what it is?") == []


@given(st.text(max_size=60))
def test_folding_is_done_once_and_a_stem_is_the_start_of_its_word(text: str) -> None:
    for word in words(text):
        assert word.startswith(stem(word))
        assert len(stem(word)) >= min(3, len(word))
        assert singular(singular(word))[:2] == word[:2]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_md", ".md").replace("_txt", ".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def test_a_folder_is_read_in_order_below_and_without_what_is_hidden(tmp_path: Path) -> None:
    write(
        tmp_path,
        b_txt="\ufeffSecond.",
        a__bond_fund_md="Intro\n\n## All about bonds ##\n\nThey pay interest.",
        a__empty_md=" \n",
        c_csv="no,text",
    )
    write(tmp_path / ".git", x_md="hidden")
    (tmp_path / "opening-hours_2.TXT").write_text("Nine to five.", encoding="utf-8")
    assert read_folder(tmp_path) == (
        Document("All about bonds", "Intro", "a/bond_fund.md#1"),
        Document(
            "All about bonds", "## All about bonds ##\n\nThey pay interest.", "a/bond_fund.md#2"
        ),
        Document("b", "Second.", "b.txt"),
        Document("opening hours 2", "Nine to five.", "opening-hours_2.TXT"),
    )
    assert read_folder(str(tmp_path)) == read_folder(tmp_path)


def test_long_files_are_cut_between_paragraphs_and_long_paragraphs_between_sentences(
    tmp_path: Path,
) -> None:
    short = "One two three four five six seven eight nine ten."  # 10 words
    paragraph = " ".join([short] * 4)
    write(tmp_path, x_txt="\n\n".join([paragraph] * 4), y_txt=" ".join([short] * 25))
    found = read_folder(tmp_path)
    assert [d.source for d in found] == [
        *("x.txt#1", "x.txt#2", "y.txt#1", "y.txt#2", "y.txt#3")  # two of 40 words; 100, 100, 50
    ]
    assert found[0].text == found[1].text == f"{paragraph}\n\n{paragraph}"
    assert [len(d.text.split()) for d in found] == [80, 80, 100, 100, 50]


@given(st.lists(st.sampled_from(["word", "end.", "\n\n", "\n", "# head\n\n"]), max_size=400))
def test_no_word_is_lost_and_passages_are_short(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    text = "first " + " ".join(parts)
    write(folder, x_md=text)
    found = read_folder(folder)
    assert " ".join(" ".join(d.text for d in found).split()) == " ".join(text.split())
    longest = max((len(s.split()) for s in sentences(text)), default=0)
    assert all(len(d.text.split()) <= max(PASSAGE_WORDS, longest) for d in found)


def test_mistakes_with_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a folder of text files; got .*nowhere"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"expected \.txt or \.md files with text in .*; got none"):
        read_folder(write(tmp_path, x_csv="a,b", y_md="\n \n"))
    (tmp_path / "z.txt").write_bytes("Kosten für".encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"expected UTF-8 text in .*z\.txt; got byte 0xfc at position 8"
    ):
        read_folder(tmp_path)


TEXT = (
    "The bond fund is calm. It lends to states.\nIts price moves little. "
    "It costs 0.45% a year. Buying is free.\n- Sell any day"
)


def test_sentences_end_at_stops_and_list_items() -> None:
    assert sentences(TEXT) == [
        "The bond fund is calm.",
        "It lends to states.",
        "Its price moves little.",
        "It costs 0.45% a year.",
        "Buying is free.",
        "- Sell any day",
    ]
    assert sentences("wrapped\nlines, e.g. these\n\nand a paragraph") == [
        "wrapped lines, e.g. these",
        "and a paragraph",
    ]


def test_the_sentences_that_answer_are_shown() -> None:
    assert excerpt(TEXT, "What does it cost a year?", max_words=8) == (
        "It costs 0.45% a year.",
        "Buying is free.",
    )
    assert excerpt(TEXT, "weather", max_words=9) == (
        "The bond fund is calm.",
        "It lends to states.",
    )
    assert excerpt("one two three four five", "", max_words=3) == ("one two three…",)
    assert cut(" a  b c ", 3) == "a b c"


def test_what_was_shown_is_not_shown_again_and_the_rest_only_if_it_answers() -> None:
    shown = set(excerpt(TEXT, "cost a year", max_words=8))
    assert excerpt(TEXT, "When may I sell?", 8, shown) == ("- Sell any day",)
    assert excerpt(TEXT, "weather", 8, shown) == ()
    assert excerpt(TEXT, "bond", 8, set(sentences(TEXT))) == ()
    assert excerpt("", "bond", 8) == ()


@given(st.text(max_size=300), st.text(max_size=50), st.integers(1, 12))
def test_an_excerpt_keeps_to_its_length(text: str, query: str, max_words: int) -> None:
    assert len(" ".join(excerpt(text, query, max_words)).split()) <= max_words
