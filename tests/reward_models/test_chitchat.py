from typing import Any

import pytest

from rlchat_reward_models import chitchat
from rlchat_reward_models.preferences import fraction, sides


def entry(*ratings: int, messages: int = 6) -> dict[str, Any]:
    told = dict(zip(chitchat.ASPECTS, map(str, ratings), strict=True))  # the data's are strings
    said = [[{"text": f" text {i} ", "sender": "ab"[i % 2]}] for i in range(messages)]
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


def test_pairs_keep_to_their_side() -> None:
    data = {f"d{i}": entry(1 + i % 4, 6 + i % 5, 10) for i in range(120)}
    dialogues = list(chitchat.rated(data))
    found = chitchat.preferences(dialogues)
    names = {d.conversation: d.name for d in dialogues}
    held_out = [fraction(d.name) < 0.2 for d in dialogues]
    assert any(held_out) and not all(held_out)
    assert len(found) == 3 * len(dialogues)
    assert all(p.difference is not None and p.difference >= 0 for p in found)
    train, rest = sides(found)
    assert train and rest
    assert names  # every conversation has a name


def test_the_package_s_own_data() -> None:
    pytest.importorskip("chitchat_dataset")
    dialogues = list(chitchat.rated(chitchat.load()))
    assert len(dialogues) > 1_500
    assert all(1 <= d.rating <= 10 for d in dialogues)
