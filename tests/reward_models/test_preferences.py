import json
import math
from pathlib import Path

import pytest

from rlchat_envs import Conversation, Message
from rlchat_reward_models.preferences import Preference, preference, read_preferences, tidy, weight


def said(text: str) -> Conversation:
    return (Message("assistant", text),)


ASKED = (Message("user", "Where is my parcel?"),)


def pair(chosen: str = "On its way.", rejected: str = "No.", **more: object) -> Preference:
    return Preference(ASKED, said(chosen), said(rejected), **more)  # type: ignore[arg-type]


def test_raters_agreement_by_hand() -> None:
    # 2 Φ(1) − 1 = 0.6827: all noise together is as large, 0.5² = 0.3² + 0.4².
    assert weight(0.5, 0.3, 0.4) == pytest.approx(0.682689, abs=1e-6)
    assert weight(0.0, 0.0, 0.25) == 0.0
    assert weight(100.0, 0.0, 0.25) == 1.0
    assert pair(weight=0.5).probability == 0.75


def test_what_is_clear() -> None:
    assert pair(difference=0.5, error=0.2).clear
    assert not pair(difference=0.4, error=0.2).clear
    assert pair().clear  # nobody measured, so nobody can doubt


def test_ties_and_duplicates_are_left_out() -> None:
    tidied = tidy([pair(), pair(), pair("a", "a"), pair("b", "c", weight=0.0), pair("d", "e")])
    assert tidied.preferences == [pair(), pair("d", "e")]
    assert (tidied.ties, tidied.duplicates, tidied.contradictions) == (2, 1, 0)


def test_contradictions_are_weighed() -> None:
    tidied = tidy([pair("a", "b", weight=0.9), pair("b", "a", weight=0.4)])
    assert [(p.chosen, round(p.weight, 6)) for p in tidied.preferences] == [(said("a"), 0.5)]
    assert tidied.contradictions == 1
    assert tidy([pair("a", "b"), pair("b", "a")]).preferences == []


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = [pair(source="simulator", turn=2, dialogue="d1", difference=0.5, error=0.1), pair()]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(p.to_json()) + "\n" for p in written), "utf-8")
    first, second = read_preferences(path)
    assert first == written[0]
    assert (second.prompt, second.chosen, second.dialogue) == (
        ASKED,
        said("On its way."),
        "p.jsonl:2",
    )


def test_trl_s_other_formats() -> None:
    plain = preference({"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}, "f:1")
    assert plain.prompt == (Message("user", "Hi"),)
    assert plain.chosen == said("Hello!")
    asked, a, b = (
        {"role": r, "content": c}
        for r, c in (("user", "Hi"), ("assistant", "A"), ("assistant", "B"))
    )
    implicit = preference({"chosen": [asked, a], "rejected": [asked, b]}, "f:2")
    assert implicit.prompt == (Message("user", "Hi"),)
    assert (implicit.chosen, implicit.rejected) == (said("A"), said("B"))
    text = preference({"chosen": "Hello!", "rejected": "What?"}, "f:3")
    assert text.prompt == () and text.rejected == said("What?")


BAD = {
    "[]": "an object with names and values",
    '{"chosen": "a"}': "an object with chosen and rejected",
    '{"chosen": "a", "rejected": ""}': "to say something",
    '{"chosen": 1, "rejected": "b"}': "chosen to be text or a list",
    '{"chosen": [{"role": "robot", "content": "a"}], "rejected": "b"}': "roles of system, user",
    '{"chosen": "a", "rejected": "b", "weight": 2}': "a weight from 0 to 1",
    '{"chosen": "a", "rejected": "b", "weight": "much"}': "weight to be a number",
    "{": "not JSON",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_lines_are_left_out_and_named_by_number(tmp_path: Path, line: str) -> None:
    path, warned = tmp_path / "p.jsonl", list[str]()
    path.write_text(f'{{"chosen": "a", "rejected": "b"}}\n\n{line}\n{line}\n', "utf-8")
    (read,) = read_preferences(path, warned.append)
    assert (read.chosen, read.rejected) == (said("a"), said("b"))
    assert len(warned) == 1 and warned[0].startswith(f"{path}: left out 2 of 3 rows: 2 × ")
    assert BAD[line] in warned[0] and warned[0].endswith("(lines 3, 4)")


def test_files_without_preferences(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n", "utf-8")
    with pytest.raises(ValueError, match="is empty"):
        read_preferences(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="expected a readable UTF-8 file"):
        read_preferences(tmp_path / "none.jsonl")


def test_weights_lie_in_range() -> None:
    assert all(0 <= weight(d / 10, 0.1, 0.25) <= 1 for d in range(50))
    assert not math.isnan(weight(0.0, 0.0, 1e-9))
