"""A turn's advantage is the sum of what each score component, the KL and the baseline gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlchat.algorithms.advantages import EstimatorSettings, estimate
from rlchat.algorithms.annotate import Annotated, annotate
from rlchat.algorithms.attribution import Attribution, attribute
from rlchat.algorithms.batch import Batch, pack
from rlchat.algorithms.config import CriticConfig
from rlchat.algorithms.critic import PRIVILEGED, Critic
from rlchat.algorithms.ppo import Discounts
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.policy import Policy
from rlchat.models.tiny import byte_tokenizer
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import RunningStd

MakePolicy = Callable[..., Policy]
SETTINGS = EstimatorSettings("gae", Discounts(1.0, 1.0, 0.5, 0.5), 1.0, 2, 0.1, 0.1, 0.01)
NAN = float("nan")
PARTS = [[{"progress": 3.0, "courtesy": -1.0}], [{"courtesy": 0.0}, {"progress": -2.0}]]
TURNS = [(0, 1), (1, 2)]
SCALE = RunningStd(1, 0, 4)  # of which the std is 2
# An agent's prompt begins a thought, which a longer conversation leaves out.
THINKER = (
    "{% set ns = namespace(asked=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' and m.thinking and loop.index0 > ns.asked %}"
    "<think>{{ m.thinking }}</think>{% endif %}"
    "{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking %}<think>{% endif %}{% endif %}"
)


def by_hand() -> Annotated:
    """Two episodes of two action tokens; the second, of two turns, is truncated.

    Scores over the std of 2 are 1, 0 and -1; k1 is .2 and -.4 in the first episode, and else 0.
    """
    mask = torch.tensor([[False, True, True, False], [False, True, False, True]])
    logprobs = torch.tensor([[NAN, -1.0, -1.0, NAN], [NAN, -1.0, NAN, -1.0]])
    batch = Batch(
        ids=torch.zeros(2, 4, dtype=torch.long),
        lengths=torch.tensor([3, 4]),
        action_mask=mask,
        turn_end=torch.tensor([[False, False, True, False], [False, True, False, True]]),
        turns=torch.tensor([[-1, 0, 0, -1], [-1, 0, -1, 1]]),
        scores=torch.tensor([[0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, -2.0]]),
        sampled_logprobs=logprobs,
        terminated=torch.tensor([True, False]),
        index=torch.tensor([0, 1]),
        privileged=torch.zeros(2, 2, PRIVILEGED),
        cached_states=[None, None],
        sampled_states=[None, None],
    )
    return Annotated(
        batch,
        logprobs,
        torch.tensor([[NAN, -1.2, -0.6, NAN], [NAN, -1.0, NAN, -1.0]]),
        torch.tensor([[NAN, 0.5, 0.25, NAN], [NAN, 1.0, NAN, 0.5]]),
        torch.tensor([0.0, 2.0]),
        torch.zeros(4, 1),
        list(batch.ids),
    )


def test_gae_by_hand() -> None:
    """With .5 for gamma and lambda across turns, and .5 for a nat.

    The first turn: 3 / 2 and -1 / 2 at both tokens; KL .1 and .2; baseline -.25 at the second
    token, .25 - .5 - .25 = -.5 at the first. The second episode: -1 at its second turn and .25 of
    it at its first; baseline .5 * 2 - .5 = .5, and .5 * .5 - 1 + .25 * .5 = -.625 before.
    """
    found = attribute(by_hand(), PARTS, SETTINGS, 0.5, SCALE, TURNS)
    first, second, third = found.turn(0, 0), found.turn(1, 0), found.turn(1, 1)
    assert first.components == pytest.approx({"progress": 1.5, "courtesy": -0.5})
    assert (first.kl, first.baseline) == pytest.approx((0.15, -0.375))
    assert first.total == pytest.approx((0.6 + 0.95) / 2)
    assert second.components == pytest.approx({"progress": -0.25, "courtesy": 0.0})
    assert (second.kl, second.baseline, second.total) == pytest.approx((0.0, -0.625, -0.875))
    assert third.parts() == pytest.approx(
        {"score: progress": -1.0, "score: courtesy": 0.0, "KL": 0.0, "baseline": 0.5}
    )
    tokens = torch.tensor([0.6, 0.95, -0.875, -0.5])
    assert found.mean == pytest.approx(float(tokens.mean()))
    assert found.std == pytest.approx(float(tokens.std(correction=0)))
    assert sum(third.parts(whitened=True).values()) == pytest.approx(third.whitened)
    assert third.parts(whitened=True)["baseline"] == pytest.approx(0.5 / found.std)


def test_rloo_by_hand() -> None:
    """The reward to come, less what the other episode had to come at the same turn.

    Of the first episode: 1.5, -.5 and KL .1 and .2; the other had -.5. Of the second: .5 of -1 in
    its first turn, where the other had 1.1, and -1 in its second, which the other has not.
    """
    rloo = replace(SETTINGS, estimator="rloo")
    found = attribute(by_hand(), PARTS, rloo, 0.5, SCALE, TURNS)
    first, second, third = found.turn(0, 0), found.turn(1, 0), found.turn(1, 1)
    assert first.components == pytest.approx({"progress": 1.5, "courtesy": -0.5})
    assert (first.kl, first.baseline, first.total) == pytest.approx((0.15, 0.5, 1.65))
    assert (second.components["progress"], second.baseline) == pytest.approx((-0.5, -1.1))
    assert (third.total, third.baseline) == pytest.approx((-1.0, 0.0))


def check_sums(found: Attribution, advantages: torch.Tensor, whitened: torch.Tensor) -> int:
    """Compare each turn's sum of parts with the mean of the advantages that training has."""
    turns = 0
    for row, turn in {(b, k) for b, k in _turns(found.batch)}:
        own = found.batch.turns[row] == turn
        parts = found.turn(row, turn)
        assert sum(parts.parts().values()) == pytest.approx(parts.total, abs=1e-9)
        assert parts.total == pytest.approx(float(advantages[row, own].mean()), abs=1e-5)
        for total in (parts.whitened, sum(parts.parts(whitened=True).values())):
            assert total == pytest.approx(float(whitened[row, own].mean()), abs=1e-5)
        turns += 1
    return turns


def _turns(batch: Batch) -> list[tuple[int, int]]:
    rows, tokens = batch.turn_end.nonzero(as_tuple=True)
    return [(int(b), int(batch.turns[b, t])) for b, t in zip(rows, tokens, strict=True)]


def compare(policy: Policy, trajectories: list[Trajectory], estimator: str, several: bool) -> int:
    """Attribute and estimate the same batch; give the number of turns that were compared."""
    critic = Critic(policy.hf.config.hidden_size, CriticConfig(width=8))
    torch.nn.init.normal_(critic.leave.weight, generator=torch.Generator().manual_seed(0))
    batch = pack(trajectories)
    annotated = annotate(policy, critic, batch, 1000)
    settings = replace(
        SETTINGS, estimator=estimator, discounts=Discounts(0.99, 0.97, 0.9, 0.95), group_size=3
    )
    everyone = [(t.index, len(t.parts)) for t in trajectories]
    envs = [t.env for t in trajectories if t.env]
    scale: RunningStd | dict[str, RunningStd] = RunningStd(1, 0, 0.5)
    if several:
        scale = {"a": RunningStd(1, 0, 0.25), "b": RunningStd(1, 0, 9)}
    trained = estimate(annotated, settings, 0.3, scale, everyone, envs=envs)
    # Whitened with a floor that is never reached, advantages can be had back.
    parts = [t.parts for t in trajectories]
    found = attribute(annotated, parts, settings, 0.3, scale, everyone, envs)
    raw = trained.advantages.double() * found.std + found.mean
    return check_sums(found, raw, trained.advantages)


@pytest.mark.parametrize("estimator", ["gae", "rloo", "reinforce"])
@pytest.mark.parametrize("several", [False, True])
def test_parts_add_up_on_trajectories(
    policy: Policy,
    make_trajectories: Callable[..., list[Trajectory]],
    estimator: str,
    several: bool,
) -> None:
    """Ragged episodes, truncated and terminated; with a scale of scores for each environment."""
    played = make_trajectories(6)
    for t in played:
        t.parts = [{**p, "courtesy": 0.1 * k - 0.2} for k, p in enumerate(t.parts)]
        t.env = "ab"[t.index % 2] if several else ""
    assert compare(policy, played, estimator, several) == sum(len(t.parts) for t in played)


@pytest.mark.parametrize("estimator", ["gae", "rloo", "reinforce"])
def test_parts_add_up_for_agents_that_think(
    make_policy: MakePolicy, estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their episodes are several contexts, each read from its own beginning."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    policy, tokenizer = make_policy(), byte_tokenizer()
    tokenizer.chat_template = THINKER
    policy.template = ChatTemplate(tokenizer, setting="3")
    episodes = [(i, (0, 0, 1, i // 3), (0, 0, 2, i)) for i in range(6)]
    with EnvPool(EnvConfig("text_envs:tests/Patience-v0")) as pool:
        config = RolloutConfig(rows=3, max_new_tokens=4, max_tokens=160)
        played = collect(policy.generation_model(), policy.template, pool, episodes, config)
    assert any(len(t.begins) > 1 for t in played)
    assert compare(policy, played, estimator, False) == sum(len(t.parts) for t in played)
