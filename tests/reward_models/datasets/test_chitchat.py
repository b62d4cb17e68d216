from typing import Any

import pytest

from rlchat_reward_models.datasets import chitchat
from rlchat_reward_models.splits import split_of


def entry(*ratings: int, messages: int = 6, text: str = "text") -> dict[str, Any]:
    told = dict(zip(chitchat.ASPECTS, map(str, ratings), strict=True))  # the data's are strings
    said = [[{"text": f" {text} {i} ", "sender": "ab"[i % 2]}] for i in range(messages)]
    return {"ratings": told, "messages": said}


def test_untouched_and_short_conversations_are_left_out() -> None:
    data = {
        "kept": entry(10, 8, 9),
        "one untouched": entry(10, 5, 9),
        "all untouched": entry(5, 5, 5),
        "short": entry(1, 2, 3, messages=2),
        "unrated": {"ratings": None, "messages": []},
    }
    (found,) = chitchat.rated(data)
    assert (found.name, found.rating) == ("kept", 9.0)
    assert [m.role for m in found.conversation[:3]] == ["user", "assistant", "user"]
    assert found.conversation[0].content == "text 0"


def test_both_of_a_pair_are_for_the_same_thing() -> None:
    data = {f"d{i}": entry(1 + i % 4, 6 + i % 5, 10, text=f"dialogue {i}") for i in range(240)}
    dialogues = list(chitchat.rated(data))
    found = chitchat.preferences(dialogues)
    assert len(found) == 3 * len(dialogues)
    assert all(p.difference is not None and p.difference >= 0 for p in found)
    of = {d.conversation: split_of(d.name) for d in dialogues}
    assert len(of) == len(dialogues)
    assert {split_of(p.dialogue) for p in found} == {"train", "calibration", "held-out"}
    assert all(of[p.chosen] == of[p.rejected] == split_of(p.dialogue) for p in found)


def test_the_package_s_own_data() -> None:
    pytest.importorskip("chitchat_dataset")
    dialogues = list(chitchat.rated(chitchat.load()))
    assert len(dialogues) > 1_500
    assert all(1 <= d.rating <= 10 for d in dialogues)
