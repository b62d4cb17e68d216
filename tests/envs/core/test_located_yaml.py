"""YAML mistakes are told with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlchat_envs.core.located_yaml import Located, read_located

TEXT = """\
system: Be kind.
facts:
  water:
    values: [daily, rarely]
    chance: 0.5
"""


@pytest.fixture
def top(tmp_path: Path) -> Located:
    place = tmp_path / "s.yaml"
    place.write_text(TEXT, "utf-8")
    return read_located(place)


def test_values_know_where_they_stand(top: Located) -> None:
    water = top.fields()["facts"].fields()["water"]
    assert (water.line, water.field) == (4, "facts.water")  # a mapping starts with its first field
    rarely = water.fields()["values"].items()[1]
    assert (rarely.line, rarely.field, rarely.text()) == (4, "facts.water.values[1]", "rarely")


def test_words_that_yaml_takes_for_something_else_are_words(tmp_path: Path) -> None:
    place = tmp_path / "s.yaml"
    place.write_text("a: yes\nb: 012\nc: null\n", "utf-8")
    fields = read_located(place).fields()
    assert [fields[name].text() for name in "abc"] == ["yes", "012", "null"]


def test_mistakes_name_file_line_and_field(top: Located) -> None:
    water = top.fields()["facts"].fields()["water"].fields()
    for wrong, sentence in (
        (
            lambda: top.fields(("offers",)),
            "line 1: expected a field offers; got only system, facts",
        ),
        (lambda: top.fields((), ("system",)), "line 3, facts: expected fields out of system; got"),
        (lambda: top.fields()["system"].items(), "line 1, system: expected a list; got 'Be kind.'"),
        (lambda: water["values"].text(), "line 4, facts.water.values: expected a text; got a list"),
        (lambda: water["values"].texts(3), "expected a list of at least 3 texts; got a list of 2"),
        (lambda: water["chance"].number(1, 2), "expected a number from 1 to 2; got '0.5'"),
        (
            lambda: top.fields()["system"].one_of(["be kind"], "manners"),
            "expected manners out of be kind; got 'Be kind.'; did you mean be kind?",
        ),
    ):
        with pytest.raises(ValueError) as error:
            wrong()
        assert str(error.value).startswith(f"{top.file}, line ")
        assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: expected fields"),
        ("a: 1\na: 2\n", "line 2, a: expected a name that occurs once; got 'a'"),
        ("a: [1\nb: 2\n", "line 2: expected YAML"),
        ("[]: 2\n", "expected a name that occurs once"),
        ("a: &x [*x]\n", "an alias of what it stands in"),
        ("a: b\n\t- c\n", "line 2: expected YAML"),
    ],
)
def test_what_is_no_yaml_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    place = tmp_path / "s.yaml"
    place.write_text(text, "utf-8")
    with pytest.raises(ValueError) as error:
        read_located(place)
    assert sentence in str(error.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a readable UTF-8 file of YAML"):
        read_located(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="expected a readable UTF-8 file of YAML"):
        read_located(tmp_path / "b.yaml")


def test_patterns_match_whole_words(tmp_path: Path) -> None:
    pattern = Located([Located("a|b", "f", 1, "x"), Located("sun\\w*", "f", 1, "x")], "f", 1, "x")
    assert pattern.pattern().search("it is sunny")
    assert not pattern.pattern().search("cab")
    with pytest.raises(ValueError, match="one that does not compile"):
        Located("(", "f", 7, "x").pattern()
