"""A person's preferred style from what is kept: printed, asked about, and paid for."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from rlchat.cli.main import main
from rlchat.cli.options import AskOptions, StyleOptions
from rlchat.cli.style import in_words, run_ask, run_style
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.feedback.store import Store, StoredReply, store_path
from rlchat.feedback.style_profile import known, known_person
from rlchat.rewards.composite import CompositeReward
from rlchat.rewards.config import RewardConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat_envs import Conversation, Message
from rlchat_reward_models.style_features import STYLE_FEATURES, style_features

ASKED = [{"role": "user", "content": "Where is it?"}]


def compared(person: str, first: str, other: str, value: int, times: int = 1) -> None:
    with Store.open(store_path()) as store:
        session = store.begin_session(person, "base", "tiny", "", 0.0)
        for _ in range(times):
            reply = store.add_reply(session, StoredReply(0, ASKED, first))
            store.rate(reply, "pair", value, other)  # type: ignore[arg-type]


def console() -> Console:
    return Console(file=io.StringIO(), width=100, color_system=None)


def printed(told: Console) -> str:
    assert isinstance(told.file, io.StringIO)
    return told.file.getvalue()


def test_one_comparison_by_hand() -> None:
    # They differ by one exclamation mark, d = 1 / 0.3: w / d = 1 − σ(d w), so w = 0.511995.
    compared("ann", "Lost!", "Lost.", 1)
    found = known_person("ann")
    w = found.posterior.mean[list(STYLE_FEATURES).index("warmth")]
    assert w == pytest.approx(0.511995, abs=1e-6)
    assert (found.own, found.silent, found.others) == (1, 0, 0)


def test_edits_count_and_undecided_pairs_do_not() -> None:
    compared("ann", "Lost!", "Lost.", 0)
    compared("ann", "It was lost.", "It was gone.", -1)
    with Store.open(store_path()) as store:
        session = store.begin_session("ann", "base", "tiny", "", 0.0)
        store.rate(
            store.add_reply(session, StoredReply(0, ASKED, "Lost.")), "edit", -1, "Lost, sorry."
        )
        found = known(store, "ann")
    assert (found.own, found.silent) == (2, 1)
    assert found.posterior.mean[list(STYLE_FEATURES).index("sympathy")] > 0


def test_others_say_what_to_expect() -> None:
    compared("ben", "Lost!", "Lost.", -1, times=20)
    compared("ann", "Sorry.", "Lost.", 1)
    found = known_person("ann")
    assert found.others == 20
    assert found.posterior.mean[list(STYLE_FEATURES).index("warmth")] < -0.5


def test_people_without_comparisons_are_refused() -> None:
    with pytest.raises(UserError, match=r"expected ratings; there is no "):
        known_person("ann")
    compared("ben", "Lost!", "Lost.", 1)
    compared("cy", "It was lost.", "It was gone.", 1)
    with pytest.raises(UserError, match=r"of ann's; there are none; rlchat feedback ask --person"):
        known_person("ann")
    with pytest.raises(UserError, match=r"there are only replies in the same style"):
        known_person("cy")


@pytest.mark.parametrize(
    ("mean", "spread", "words"),
    [(1.7, 1.0, "surely more"), (-1.6, 1.0, "rather less"), (0.6, 1.0, "not known")],
)
def test_words_for_what_is_known(mean: float, spread: float, words: str) -> None:
    assert in_words(mean, spread) == words


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    compared("ann", "Lost!", "Lost.", 1, times=9)
    told = console()
    run_style(StyleOptions("ann"), told)
    lines = [" ".join(line.split()) for line in printed(told).splitlines()]
    assert lines[0] == "feature wants log-odds"
    assert lines[1] == "length not known +0.0 (-2.0 … +2.0)"
    assert lines[4].startswith("warmth surely more +1.0 (")
    assert lines[-1].startswith("ann, from 9 comparisons, beside 0 of others. Log-odds")
    assert main(["feedback", "style", "--person", "nobody"]) == 2
    assert "there are none" in "".join(capsys.readouterr())


def test_ten_questions_find_who_likes_it_short() -> None:
    """Somebody who always takes the shorter reply, and stops in the middle of the last question."""
    told, shown = console(), []

    def show(*texts: Any, **_: Any) -> None:
        shown.extend(str(t) for t in texts)

    def answers() -> Iterator[str]:
        while True:
            a, b = (t.partition("  ")[2] for t in shown[-2:])
            yield "a" if len(a) < len(b) else "b"

    source = answers()
    told.print = show  # type: ignore[method-assign]
    run_ask(AskOptions("ann", count=10, dialogues=3), told, lambda who: next(source))
    found = known_person("ann")
    assert found.own == 10 and found.silent == 0
    assert (
        found.posterior.mean[list(STYLE_FEATURES).index("length")] == found.posterior.mean.min() < 0
    )

    def leave(_: Text) -> str:
        raise EOFError

    told = console()
    run_ask(AskOptions("ann", dialogues=1), told, leave)
    assert "ann, from 10 comparisons" in printed(told)


def episode(*replies: str) -> Trajectory:
    said: Conversation = (Message("user", "Where is it?"),)
    for reply in replies:
        said = (*said, Message("assistant", reply), Message("user", "And?"))
    parts: list[Mapping[str, float]] = [{"progress": 0.5, "courtesy": -0.1} for _ in replies]
    return Trajectory(0, 0, [], parts=parts, conversation=said)


def test_a_turn_is_worth_what_the_person_prefers() -> None:
    compared("ann", "Lost!", "Lost.", 1, times=5)
    w = known_person("ann").posterior.mean[list(STYLE_FEATURES).index("warmth")] / 0.3
    reward = CompositeReward(RewardConfig(person="ann"))
    assert dict(reward.weights) == {"world": 1.0, "rules": 1.0, "style": 1.0} and not reward.plain
    (scored,) = reward.score([episode("Lost!", "Gone.")], Distributed(cpu=True))
    # On average half an exclamation mark: log σ(± w / 2).
    styles = [parts["style"] for parts in scored.parts]
    assert styles == pytest.approx([-math.log1p(math.exp(-w / 2)), -math.log1p(math.exp(w / 2))])
    assert scored.parts[0] == pytest.approx({"progress": 0.5, "courtesy": -0.1, "style": styles[0]})


def test_a_run_goes_on_with_the_weights_it_began_with() -> None:
    compared("ann", "Lost!", "Lost.", 1)
    begun = CompositeReward(RewardConfig(person="ann", weights="style=2"))
    begun.score([episode("Lost!", "Gone.")], Distributed(cpu=True))
    compared("ann", "Lost!", "Lost.", -1, times=9)
    gone_on = CompositeReward(RewardConfig(person="ann", weights="style=2"))
    gone_on.take_up(begun.to_json())
    assert begun.personal is not None and gone_on.personal is not None
    assert (gone_on.personal.preference_weights == begun.personal.preference_weights).all()
    assert gone_on.personal.mean_features == pytest.approx(
        np.mean([style_features((), "Lost!"), style_features((), "Gone.")], axis=0)
    )


def test_checkpoints_of_earlier_versions_are_taken_up() -> None:
    compared("ann", "Lost!", "Lost.", 1)
    reward = CompositeReward(RewardConfig(person="ann", weights="style=2"))
    weights, usual = [0.5] * len(STYLE_FEATURES), [0.25] * len(STYLE_FEATURES)
    kept = {"multiplier": 0.0, "style": {"taste": weights, "usual": usual, "settled": True}}
    reward.take_up(kept)
    assert reward.to_json()["style"] == {
        "preference_weights": weights,
        "mean_features": usual,
        "settled": True,
    }


def test_style_wants_a_person_and_a_person_comparisons() -> None:
    with pytest.raises(UserError, match=r"expected --reward\.person with a weight for style"):
        RewardConfig(weights="world=1,style=1")
    compared("ben", "Lost!", "Lost.", 1)
    with pytest.raises(UserError, match=r"comparisons of ann's; there are none"):
        CompositeReward(RewardConfig(person="ann"))
    assert RewardConfig(person="ann", weights="world=1,style=0").weighed["style"] == 0


class Two(Distributed):
    """This process and another, whose agent has said "Gone."."""

    def gather(self, items: list[Any]) -> list[Any]:
        return [*items, style_features((), "Gone.")]


def test_the_usual_style_is_that_of_all_ranks() -> None:
    """Half an exclamation mark a reply, one here and none there."""
    compared("ann", "Lost!", "Lost.", 1, times=5)
    w = known_person("ann").posterior.mean[list(STYLE_FEATURES).index("warmth")] / 0.3
    reward = CompositeReward(RewardConfig(person="ann"))
    (scored,) = reward.score([episode("Lost!")], Two(cpu=True))
    assert scored.parts[0]["style"] == pytest.approx(-math.log1p(math.exp(-w / 2)))
