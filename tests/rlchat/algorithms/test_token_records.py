"""What is recorded of single tokens is what the update made of them."""

from __future__ import annotations

import math

import pytest
import torch

from rlchat.algorithms.advantages import Estimated, estimate, estimator_settings
from rlchat.algorithms.annotate import ALTERNATIVES, annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.algorithms.critic import Critic
from rlchat.algorithms.token_records import (
    CONSIDERED,
    RECORDED,
    considered,
    token_records,
    token_texts,
)
from rlchat.models.policy import POLICY, Policy
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import RunningStd
from tests.conftest import MakeTrajectories


def estimated_of(policy: Policy, trajectories: list[Trajectory], budget: int = 100) -> Estimated:
    config = CriticConfig(width=8, privileged=False)
    critic = Critic(policy.hf.config.hidden_size, config)
    torch.nn.init.normal_(critic.leave.weight)
    batch, scale = pack(trajectories), RunningStd()
    scale.add([sum(p.values()) for t in trajectories for p in t.parts])
    annotated = annotate(policy, critic, batch, budget, considered(batch))
    turns = [(t.index, len(t.parts)) for t in trajectories]
    return estimate(annotated, estimator_settings(PPOConfig(), config), 0.1, scale, turns)


@pytest.mark.parametrize("budget", [1, 100])
def test_numbers_are_those_of_the_update(
    policy: Policy, make_trajectories: MakeTrajectories, budget: int
) -> None:
    trajectories = make_trajectories()
    out = estimated_of(policy, trajectories, budget)
    records = token_records(policy.template.tokenizer, out)
    assert [r["index"] for r in records] == [t.index for t in trajectories]
    for b, (record, t) in enumerate(zip(records, trajectories, strict=True)):
        acts = [j for j, acted in enumerate(t.action_mask) if acted]
        assert record["turn"] == [t.turns[j] for j in acts]
        for name, values in (
            ("logprob", out.annotated.logprobs),
            ("reference", out.annotated.ref_logprobs),
            ("value", out.annotated.values),
            ("advantage", out.advantages),
        ):
            assert record[name] == pytest.approx(values[b, acts].tolist(), abs=1e-4), name
        assert len(record["text"]) == len(acts)


def test_alternatives_are_the_most_probable_tokens(
    policy: Policy, make_trajectories: MakeTrajectories
) -> None:
    """As the whole row alone tells them; whether the sampler's states were kept or not."""
    trajectories = make_trajectories()
    plain = estimated_of(policy, trajectories)
    for b, t in enumerate(trajectories):
        acts = torch.tensor(t.action_mask).nonzero()[:, 0]
        with torch.no_grad(), policy.using(POLICY):
            out = policy.model(input_ids=torch.tensor([t.ids]), output_hidden_states=True)
        best, ids = out.logits[0].log_softmax(-1)[acts - 1].topk(ALTERNATIVES)
        t.sampled_logprobs = plain.annotated.logprobs[b, : len(t.ids)].tolist()
        if t.terminated:
            states = torch.stack([out.hidden_states[-1][0], out.hidden_states[2][0]], 1)
            t.sampled_states = states[acts - 1]
        if b >= CONSIDERED:
            assert b not in plain.annotated.alternatives
            continue
        assert torch.equal(plain.annotated.alternatives[b][0], ids)
        torch.testing.assert_close(plain.annotated.alternatives[b][1], best, atol=1e-5, rtol=1e-5)
    kept = estimated_of(policy, trajectories, 1).annotated.alternatives
    for b, (ids, _) in plain.annotated.alternatives.items():
        assert torch.equal(kept[b][0], ids)
    (first, *_) = token_records(policy.template.tokenizer, plain)
    for own in first["alternatives"]:
        assert len(own) == ALTERNATIVES and own == sorted(own, key=lambda pair: -pair[1])
        assert 0 < sum(math.exp(p) for _, p in own) <= 1.001


def test_reading_alternatives_changes_no_number(
    policy: Policy, make_trajectories: MakeTrajectories
) -> None:
    batch = pack(make_trajectories())
    critic = Critic(policy.hf.config.hidden_size, CriticConfig(width=8, privileged=False))
    plain, asked = (annotate(policy, critic, batch, 100, rows) for rows in ((), (0, 1)))
    assert not plain.alternatives and set(asked.alternatives) == {0, 1}
    for name in ("logprobs", "ref_logprobs", "values", "bootstrap", "states"):
        assert torch.equal(getattr(plain, name), getattr(asked, name)), name


def test_only_the_first_episodes_are_recorded(
    policy: Policy, make_trajectories: MakeTrajectories
) -> None:
    trajectories = make_trajectories(RECORDED + 3)
    records = token_records(policy.template.tokenizer, estimated_of(policy, trajectories))
    assert [r["index"] for r in records] == list(range(RECORDED))
    assert [r["index"] for r in records if "alternatives" in r] == list(range(CONSIDERED))


@pytest.mark.parametrize("text", ["Hello there.", "naïve 🙂 שלום!", "一二三"])
def test_texts_of_tokens_add_up(policy: Policy, text: str) -> None:
    """A character of several tokens is the last one's."""
    tokenizer = policy.template.tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids) and "".join(texts) == text
    assert "".join(token_texts(tokenizer, ids[:-1])) == tokenizer.decode(ids[:-1])
