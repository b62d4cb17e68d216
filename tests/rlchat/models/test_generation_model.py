"""Generation models of one policy: apart while both are there, one copy where one is enough."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlchat.errors import RunError
from rlchat.inference.agents import ConversationSettings
from rlchat.inference.decoder import Decoder
from rlchat.inference.model_agent import ModelAgent
from rlchat.models.adapters import POLICY
from rlchat.models.generation_model import GenerationModel
from rlchat.models.policy import REFERENCE, Policy
from rlchat_envs import Message

MakePolicy = Callable[..., Policy]
IDS = torch.arange(32)[None]


@torch.no_grad()
def logits(generation: GenerationModel) -> Tensor:
    out: Tensor = generation.model(input_ids=IDS).logits
    return out


def test_an_adapter_stays_what_it_is_while_another_is_merged(policy: Policy) -> None:
    kept = {adapter: policy.generation_model(adapter) for adapter in (REFERENCE, POLICY, None)}
    before = {adapter: logits(generation) for adapter, generation in kept.items()}
    assert not torch.allclose(before[REFERENCE], before[POLICY], atol=1e-3)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(0.5)
    later = policy.generation_model()
    assert not torch.allclose(logits(later), before[POLICY], atol=1e-3)
    assert all(torch.equal(logits(kept[adapter]), before[adapter]) for adapter in kept)


@pytest.mark.parametrize("method", ["lora", "ia3", "prefix", "prompt"])
def test_agents_of_one_policy_reply_as_if_alone(make_policy: MakePolicy, method: str) -> None:
    policy, hello = make_policy(method, noise=1.0), (Message("user", "hello"),)
    settings = ConversationSettings(max_new_tokens=12)

    def said(agent: ModelAgent) -> tuple[int, ...]:
        return agent.start(0, settings).reply(hello, {}, lambda _: None).ids

    reference = ModelAgent.of(policy, REFERENCE)
    alone = said(reference), said(ModelAgent.of(policy, POLICY))
    assert alone[0] != alone[1]
    ours = ModelAgent.of(policy, POLICY)
    assert (said(reference), said(ours)) == alone


def test_a_decoder_keeps_its_model(policy: Policy) -> None:
    """The generation model is named nowhere else, and yet nothing is merged into its copy."""

    def generate(other: bool) -> list[float]:
        decoder = Decoder(policy.generation_model(REFERENCE), 1, 64, stop_ids=())
        if other:
            policy.generation_model(POLICY)
        return decoder.generate({0: [1, 2, 3]}, {0: lambda: 0.5}, 8)[0].logprobs

    assert generate(other=True) == generate(other=False)


def test_one_at_a_time_is_one_copy(policy: Policy) -> None:
    first = policy.generation_model().model
    assert policy.generation_model(REFERENCE).model is first
    held = policy.generation_model()
    assert held.model is first and policy.generation_model().model is not first
    policy.free_merged()
    assert policy.generation_model().model is first  # though `held` is still there


def test_what_was_freed_refuses_to_go_on(policy: Policy) -> None:
    generation = policy.generation_model()
    decoder = Decoder(generation, 1, 64, stop_ids=())
    decoder.submit(0, [1, 2, 3], lambda: 0.5, 8)
    decoder.step()
    policy.free_merged()
    for use in (decoder.step, lambda: generation.model, lambda: Decoder(generation, 1, 64, ())):
        with pytest.raises(RunError, match="freed for an update of the policy; ask the policy"):
            use()
    assert torch.equal(logits(policy.generation_model()), logits(policy.generation_model()))
