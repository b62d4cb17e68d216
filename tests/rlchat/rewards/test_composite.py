from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rlchat.rewards.composite as room
from rlchat.algorithms.advantages import estimator_settings
from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.rewards.composite import CompositeReward
from rlchat.rewards.config import RewardConfig
from rlchat.rewards.learned import shaped
from rlchat.rollout.trajectory import Trajectory
from rlchat_envs import Message
from rlchat_reward_models.reward_model import EnsembleScores
from rlchat_reward_models.scorer import Scale

CONVERSATION = (
    Message("user", "hi"),
    Message("assistant", "one"),
    Message("user", "and?"),
    Message("assistant", "three"),
)


class Letters:
    """A reward model that pays for letters."""

    def __init__(self) -> None:
        self.scale, self.granularity = Scale(uncertainty_penalty=0.0), "turn"

    def rescale(self, scale: Scale) -> None:
        self.scale = scale

    def ensemble_scores(self, turns: list[tuple[object, tuple[Message, ...]]]) -> EnsembleScores:
        letters = torch.tensor([float(len(reply[0].content)) for _, reply in turns])
        return EnsembleScores(letters, torch.zeros(len(turns)))


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(room, "load_scorer", lambda *_: Letters())
    return Path("letters")


def episode(cost: float = 0.0) -> Trajectory:
    trajectory = Trajectory(0, 0, [1, 2])
    trajectory.act([3, 4], [-1.0, -2.0])
    trajectory.parts = [
        {"progress": 0.2, "resolution": 0.0, "courtesy": -0.1},
        {"progress": -0.2, "resolution": 1.0, "courtesy": 0.0},
    ]
    trajectory.costs = [{}, {"policy": cost}]
    trajectory.conversation = CONVERSATION
    return trajectory


def test_the_world_s_own_score_is_left_alone() -> None:
    trajectory = episode()
    reward = CompositeReward(RewardConfig())
    assert reward.plain
    assert reward.score([trajectory], Distributed(cpu=True)) == [trajectory]


def test_parts_are_weighed_by_group_and_by_name() -> None:
    reward = CompositeReward(RewardConfig(weights="world=0.5,rules=2,progress=0"))
    (scored,) = reward.score([episode()], Distributed(cpu=True))
    assert scored.parts == [
        {"resolution": 0.0, "courtesy": -0.2},
        {"resolution": 0.5, "courtesy": 0.0},
    ]
    assert scored.env_score == pytest.approx(0.9)  # what the world thought stays beside it
    assert scored.ids == [1, 2, 3, 4] and scored.action_mask == [False, False, True, True]


def test_shapes_by_hand() -> None:
    scale = Scale(mean=1.0, std=2.0)
    assert shaped(scale, torch.tensor([1.0, 5.0]), "plain") == [0.0, 2.0]
    # log σ(0) = −log 2, log σ(4) = −0.018150
    assert shaped(scale, torch.tensor([1.0, 5.0]), "log-sigmoid") == pytest.approx(
        [-0.693147, -0.018150], abs=1e-6
    )


def test_a_learned_score_alone(letters: Path) -> None:
    reward = CompositeReward(RewardConfig(letters, shape="plain"))
    (scored,) = reward.score([episode()], Distributed(cpu=True))
    # "one" and "three" under mean 4 and standard deviation √2: ±0.7071, and nothing of the world's.
    values = [part["learned"] for part in scored.parts]
    assert values == pytest.approx([-0.707107, 0.707107], abs=1e-6)
    assert all(set(part) == {"learned"} for part in scored.parts)


def test_a_log_probability_never_pays_for_talking_on(letters: Path) -> None:
    reward = CompositeReward(RewardConfig(letters, shape="log-sigmoid"))
    (scored,) = reward.score([episode()], Distributed(cpu=True))
    assert all(part["learned"] < 0 for part in scored.parts)


@pytest.mark.parametrize(
    ("weights", "compared"),
    [
        ("", True),
        ("learned=1,rules=1,courtesy=2,toxicity=1", True),
        ("learned=1,world=0", True),
        ("learned=1,world=1", False),
        ("learned=1,resolution=1", False),
        ("learned=0,rules=1", False),
    ],
)
def test_comparisons_are_not_summed_unless_the_world_counts(
    letters: Path, monkeypatch: pytest.MonkeyPatch, weights: str, compared: bool
) -> None:
    monkeypatch.setattr(room, "Toxicity", Letters)
    reward = CompositeReward(RewardConfig(letters, weights))
    assert reward.compared == compared
    discounts = estimator_settings(PPOConfig(), CriticConfig(), reward.compared).discounts
    assert discounts.gamma_turn == (0 if compared else 1)
    given = estimator_settings(PPOConfig(gamma_turn=0.9), CriticConfig(), reward.compared)
    assert given.discounts.gamma_turn == 0.9


def test_a_whole_conversation_is_scored_once(letters: Path) -> None:
    """The model pays for the letters of the first message scored, here the first reply's."""
    reward = CompositeReward(RewardConfig(letters, shape="plain", granularity="conversation"))
    (scored,) = reward.score([episode()], Distributed(cpu=True))
    assert [part["learned"] for part in scored.parts] == [0.0, 0.0]  # it is the average one
    longer = episode()
    longer.conversation = (CONVERSATION[0], Message("assistant", "seven"), *CONVERSATION[2:])
    (scored,) = reward.score([longer], Distributed(cpu=True))
    assert reward.learned is not None
    std = reward.learned.scorer.scale.std
    assert [part["learned"] for part in scored.parts] == [0.0, pytest.approx(2 / std)]
    assert not reward.compared  # one score an episode may be summed


def test_what_a_model_learned_from_is_what_it_scores(
    letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Letters()
    model.granularity = "conversation"
    monkeypatch.setattr(room, "load_scorer", lambda *_: model)
    learned = CompositeReward(RewardConfig(letters)).learned
    assert learned is not None and learned.granularity == "conversation"
    learned = CompositeReward(RewardConfig(letters, granularity="turn")).learned
    assert learned is not None and learned.granularity == "turn"


def test_without_a_model_turns_are_summed() -> None:
    assert not CompositeReward(RewardConfig()).compared


def test_the_scale_is_the_reference_policy_s(letters: Path) -> None:
    reward = CompositeReward(RewardConfig(letters, shape="plain"))
    reward.score([episode(), episode()], Distributed(cpu=True))
    assert reward.learned is not None and reward.learned.settled
    before = reward.learned.scorer.scale
    longer = episode()
    longer.conversation = tuple(Message(m.role, m.content * 9) for m in CONVERSATION)
    (scored,) = reward.score([longer], Distributed(cpu=True))
    assert reward.learned.scorer.scale == before  # what came later does not move it
    assert scored.parts[1]["learned"] > 10


def test_what_is_kept_is_taken_up_again(letters: Path) -> None:
    reward = CompositeReward(RewardConfig(letters, cost_limit=0.1))
    reward.score([episode(), episode()], Distributed(cpu=True))
    reward.price(1.1)
    again = CompositeReward(RewardConfig(letters, cost_limit=0.1))
    again.take_up(reward.to_json())
    assert again.to_json() == reward.to_json()
    scores = [r.score([episode(1.0)], Distributed(cpu=True))[0].parts for r in (reward, again)]
    assert scores[0] == scores[1]


def test_the_price_of_costs_by_hand() -> None:
    reward = CompositeReward(RewardConfig(cost_limit=0.1, cost_rate=0.5))
    reward.price(0.5)
    assert reward.multiplier == pytest.approx(0.2)  # 0.5 · (0.5 − 0.1)
    (scored,) = reward.score([episode(cost=2.0)], Distributed(cpu=True))
    assert [part["cost"] for part in scored.parts] == [0.0, pytest.approx(-0.4)]
    reward.price(0.0)
    assert reward.multiplier == pytest.approx(0.15)
    for _ in range(4):
        reward.price(0.0)
    assert reward.multiplier == 0.0  # what lies under the limit earns nothing


BAD: dict[str, Callable[[], object]] = {
    "expected weights such as world=1": lambda: RewardConfig(weights="world"),
    "expected --reward.model with a weight": lambda: RewardConfig(weights="learned=1"),
    "expected cost_limit of at least 0": lambda: RewardConfig(cost_limit=-1.0),
    "expected a reward model that": lambda: CompositeReward(RewardConfig(Path("nowhere"))),
}


@pytest.mark.parametrize("words", BAD)
def test_what_is_refused(words: str) -> None:
    with pytest.raises(UserError, match=words):
        made = BAD[words]()
        assert isinstance(made, RewardConfig) and made.weighed


def test_weights_of_parts_that_nobody_gives_are_refused() -> None:
    reward = CompositeReward(RewardConfig(weights="wrold=1"))
    with pytest.raises(UserError, match=r"expected weights of world, .*courtesy.*; got wrold"):
        reward.score([episode()], Distributed(cpu=True))


class Two(Distributed):
    """This process and another, which has given its part of what is gathered."""

    def __init__(self, other: list[Any]) -> None:
        super().__init__(cpu=True)
        self.other = other

    def gather(self, items: list[Any]) -> list[Any]:
        return [*items, *self.other]


def foreign() -> Trajectory:
    """An episode of an environment of somebody else's, in which no turn was cut off."""
    trajectory = episode()
    trajectory.parts = [{"reward": 1.0}, {"reward": 0.5}]
    return trajectory


def test_a_part_that_only_some_turns_have_may_be_weighed() -> None:
    reward = CompositeReward(RewardConfig(weights="reward=1,cut_off=0.5"))
    (scored,) = reward.score([foreign()], Distributed(cpu=True))
    assert scored.parts == [{"reward": 1.0}, {"reward": 0.5}]
    cut = foreign()
    cut.parts = [{"reward": 1.0, "cut_off": -0.2}, {"reward": 0.5}]
    (scored,) = reward.score([cut], Distributed(cpu=True))
    assert scored.parts == [{"reward": 1.0, "cut_off": -0.1}, {"reward": 0.5}]


def test_what_another_rank_s_episodes_have_is_known() -> None:
    """Or one rank would stop, and the others wait for it."""
    reward = CompositeReward(RewardConfig(weights="reward=1,bonus=2"))
    (scored,) = reward.score([foreign()], Two(["bonus", "reward"]))
    assert scored.parts == [{"reward": 1.0}, {"reward": 0.5}]
    assert reward.score([foreign()], Distributed(cpu=True))  # seen once is known
    with pytest.raises(UserError, match=r"cut_off, reward; got courtesy$"):
        CompositeReward(RewardConfig(weights="courtesy=1")).score([foreign()], Two(["reward"]))


def test_the_scale_is_that_of_all_ranks(letters: Path) -> None:
    """3 and 5 letters here, 7 and 9 elsewhere: mean 6, variance (9 + 1 + 1 + 9) / 3."""
    reward = CompositeReward(RewardConfig(letters, shape="plain"))
    (scored,) = reward.score([episode()], Two([7.0, 9.0]))
    std = (20 / 3) ** 0.5
    assert [p["learned"] for p in scored.parts] == pytest.approx([-3 / std, -1 / std])


def test_a_stated_style_counts_whatever_else_is_paid_for() -> None:
    """Unless it is weighed itself: as a group, or an axis by its name."""
    played, styled = episode(), {"stated_length": -0.15, "stated_tone": -0.1}
    played.parts = [{"progress": 0.2, "courtesy": -0.1, **styled}]

    def scored(weights: str) -> dict[str, float]:
        (found,) = CompositeReward(RewardConfig(weights=weights)).score([played], Distributed())
        return dict(found.parts[0])

    assert scored("") == played.parts[0]
    assert scored("world=1") == {"progress": 0.2, **styled}
    assert scored("world=1,stated=0") == {"progress": 0.2}
    own = scored("world=0,stated=2,stated_tone=0")
    assert own == {"stated_length": -0.3}
    assert CompositeReward(RewardConfig()).plain


def test_an_axis_that_no_episode_of_a_few_states_may_be_weighed() -> None:
    """With ``any`` each axis is left open in a third of the episodes."""
    played = episode()
    played.parts = [{"progress": 0.2, "stated_tone": -0.1}, {"progress": 0.0}]
    reward = CompositeReward(RewardConfig(weights="world=1,stated_length=2"))
    (scored,) = reward.score([played], Distributed(cpu=True))
    assert scored.parts[0] == {"progress": 0.2, "stated_tone": -0.1}
