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


HUMAN = "\n\nHuman: Hi there\n\nAssistant: Hello.\n\nHuman: Where is it?\n\nAssistant:"
BEFORE = (
    Message("user", "Hi there"),
    Message("assistant", "Hello."),
    Message("user", "Where is it?"),
)


def test_what_two_transcripts_begin_with_is_their_prompt() -> None:
    """Anthropic's format: one text holds all, and the replies may begin alike."""
    rows: list[dict[str, object]] = [
        {"chosen": f"{HUMAN} I look, gladly.", "rejected": f"{HUMAN} I look nowhere."},
        {"prompt": HUMAN, "chosen": "I look, gladly.", "rejected": " I look nowhere.".strip()},
        {
            "prompt": HUMAN,
            "chosen": f"{HUMAN} I look, gladly.",
            "rejected": f"{HUMAN} I look nowhere.",
        },
    ]
    for row in rows:
        p = preference(row, "f:1")
        assert (p.prompt, p.chosen, p.rejected) == (
            BEFORE,
            said("I look, gladly."),
            said("I look nowhere."),
        )


def test_transcripts_that_part_at_a_user_s_line_part_after_an_assistant_s_mark() -> None:
    ends = ("\n\nHuman: Thanks\n\nAssistant: Yes.", "\n\nHuman: What?\n\nAssistant: No.")
    chosen, rejected = (f"{HUMAN} There.{end}" for end in ends)
    p = preference({"chosen": chosen, "rejected": rejected}, "f:1")
    assert p.prompt == BEFORE
    assert p.chosen == (*said("There."), Message("user", "Thanks"), *said("Yes."))
    assert p.rejected == (*said("There."), Message("user", "What?"), *said("No."))


def test_a_prompt_that_replies_repeat_is_said_once() -> None:
    def talk(*texts: str) -> list[dict[str, str]]:
        roles = ("user", "assistant")
        return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]

    def sides(prompt: object, chosen: object, rejected: object) -> tuple[Conversation, ...]:
        p = preference({"prompt": prompt, "chosen": chosen, "rejected": rejected}, "f:1")
        return p.prompt, p.chosen, p.rejected

    asked, yes, no = (Message("user", "Hi"),), said("Yes."), said("No.")
    assert sides("Hi", talk("Hi", "Yes."), talk("Hi", "No.")) == (asked, yes, no)
    assert sides(talk("Hi"), talk("Hi", "Yes."), talk("Hi", "No.")) == (asked, yes, no)
    assert sides("Hi", talk("Hi", "Yes."), "No.") == (asked, yes, no)
    told = [{"role": "system", "content": "Be kind."}]
    kind = (Message("system", "Be kind."), *asked)
    assert sides("Hi", [*told, *talk("Hi", "Yes.")], [*told, *talk("Hi", "No.")]) == (kind, yes, no)
    assert sides([*told, *talk("Hi")], talk("Hi", "Yes."), talk("Hi", "No.")) == (kind, yes, no)
    # The prompt is the first line of several, or the last.
    longer = talk("Hi", "Ho", "And?")
    before = (*asked, *said("Ho"), Message("user", "And?"))
    for prompt in ("Hi", "And?"):
        found = sides(prompt, [*longer, *talk("", "Yes.")[1:]], [*longer, *talk("", "No.")[1:]])
        assert found == (before, yes, no)
    # What only looks alike stays.
    assert sides("Ho", talk("Hi", "Yes."), talk("Hi", "No."))[0] == (Message("user", "Ho"),)


def test_a_judge_s_equal_scores_are_a_tie() -> None:
    def scored(chosen: object, rejected: object) -> Preference:
        row = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
        return preference(row | {"score_chosen": chosen, "score_rejected": rejected}, "f:1")

    tidied = tidy([scored(8.0, 8), scored(8.5, 8), scored(None, None)])
    assert (tidied.ties, [p.weight for p in tidied.preferences]) == (1, [1.0])
