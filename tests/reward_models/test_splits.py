from hypothesis import given
from hypothesis import strategies as st

from rlchat_envs import Message
from rlchat_reward_models.preferences import Preference
from rlchat_reward_models.splits import CALIBRATION, HELD_OUT, by_split, split_of


def about(dialogue: str) -> Preference:
    better, worse = (Message("assistant", "yes"),), (Message("assistant", "no"),)
    return Preference((), better, worse, dialogue=dialogue)


def test_no_dialogue_is_in_two_splits() -> None:
    many = [about(f"d{i % 400}") for i in range(2000)]
    train, calibration, held_out = by_split(many).values()
    dialogues = [{p.dialogue for p in part} for part in (train, calibration, held_out)]
    assert sum(map(len, dialogues)) == len(set.union(*dialogues)) == 400
    assert len(train) + len(calibration) + len(held_out) == 2000
    assert abs(len(held_out) / 2000 - HELD_OUT) < 0.05
    assert abs(len(calibration) / (2000 - len(held_out)) - CALIBRATION) < 0.05
    assert all(p.held_out for p in held_out)
    assert not any(p.held_out for p in train + calibration)


@given(st.text())
def test_a_name_is_always_in_the_same_split(name: str) -> None:
    assert split_of(name) == split_of(name)


def test_splits_never_change() -> None:
    """A model must not be tested on what an earlier version trained it on."""
    names = ["train", "held-out", "calibration"]
    found = "".join(str(names.index(split_of(f"d{i}"))) for i in range(20))
    assert found == "10000100200020020020"
