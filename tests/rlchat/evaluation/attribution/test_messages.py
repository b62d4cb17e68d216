"""What a reply hung on: occlusion against plain forwards, attention against transformers'."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlchat.evaluation.attribution.messages import (
    BLANKS,
    AgentTurn,
    _Reader,
    agent_turns,
    dependences,
    rank_correlation,
)
from rlchat.models.by_rows.way import ByRows, take_by_rows
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.policy import Policy
from rlchat.models.templates.context import turn_of
from rlchat.models.tiny import byte_tokenizer
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat_envs import Message

MakePolicy = Callable[..., Policy]
CONFIG = RolloutConfig(rows=2, max_new_tokens=8, max_tokens=400)
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
TALK = (
    Message("system", "You are a desk."),
    Message("user", "My lamp is broken."),
    Message("assistant", "Which order?"),
    Message("user", "A12."),
    Message("assistant", "Thanks."),
)


def turns_of(policy: Policy) -> list[AgentTurn]:
    said = [policy.template.reply(m.content) for m in TALK if m.role == "assistant"]
    return [AgentTurn(ids, [True] * len(ids)) for ids in said]


def plain_logprob(policy: Policy, talk: tuple[Message, ...]) -> float:
    """Of the last message, by a forward of the adapted model over a conversation in tokens."""
    whole = policy.template.conversation(talk)
    last = len(policy.template.reply(talk[-1].content))
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([whole.ids])).logits[0]
    states = logits[-len(whole.ids) :].log_softmax(-1)  # virtual tokens have some too
    return sum(float(states[i - 1, whole.ids[i]]) for i in range(len(whole.ids))[-last:])


@pytest.mark.parametrize("method", ["lora", "prefix", "prompt"])
def test_occlusion_is_what_the_logprob_loses(make_policy: MakePolicy, method: str) -> None:
    policy = make_policy(method)
    found = dependences(policy, TALK, turns_of(policy), CONFIG, [1])[0]
    assert found.logprob == pytest.approx(plain_logprob(policy, TALK), abs=1e-3)
    assert [effect.place for effect in found.messages] == [0, 1, 2, 3]
    for i, effect in enumerate(found.messages):
        changed = (*TALK[:i], replace(TALK[i], content=BLANKS[0]), *TALK[i + 1 :])
        expected = found.logprob - plain_logprob(policy, changed)
        assert effect.occlusion == pytest.approx(expected, abs=2e-3)


def test_a_messages_tokens_are_found(policy: Policy) -> None:
    reader = _Reader(policy, TALK, turns_of(policy), CONFIG)
    decode = policy.template.tokenizer.decode
    ids = reader.prompts[1]
    found = [decode([ids[i] for i in span]) for span in reader._spans(1)]
    assert found == [m.content for m in TALK[:4]]
    dots = (*TALK[:1], Message("user", "...#"), *TALK[2:])
    found = [*_Reader(policy, dots, turns_of(policy), CONFIG)._spans(1)]
    assert len(found[1]) == 4


def test_attention_is_that_of_transformers(policy: Policy) -> None:
    """The mean over heads and layers; contributions by the lengths of each layer's values."""
    found = dependences(policy, TALK, turns_of(policy), CONFIG, [1])[0]
    model = copy.deepcopy(policy.generation_model().model)
    model.set_attn_implementation("eager")
    reader = _Reader(policy, TALK, turns_of(policy), CONFIG)
    prompt, own = reader.prompts[1], reader.turns[1].ids
    ids = torch.tensor([[*prompt, *own]])
    with torch.no_grad():
        out = model(input_ids=ids, output_attentions=True, output_hidden_states=True)
    asked = slice(len(prompt) - 1, ids.shape[1] - 1)
    weights, taken = torch.zeros(2, ids.shape[1]).unbind()
    for layer, states, heads in zip(
        model.model.layers, out.hidden_states, out.attentions, strict=False
    ):
        with torch.no_grad():
            values = layer.self_attn.v_proj(layer.input_layernorm(states))[0]
        lengths = values.view(len(values), 2, -1).norm(dim=-1)  # of two groups of two heads each
        each = torch.stack([heads[0, h, asked] * lengths[:, h // 2] for h in range(4)]).sum(0)
        weights += heads[0].mean(0)[asked].mean(0) / 2
        taken += (each / each.sum(-1, keepdim=True)).mean(0) / 2
    for effect, span in zip(found.messages, reader._spans(1), strict=True):
        tokens = list(span)
        assert effect.attention == pytest.approx(float(weights[tokens].sum()), abs=1e-5)
        assert effect.contribution == pytest.approx(float(taken[tokens].sum()), abs=1e-5)
    for kind, name in enumerate(("attention", "contribution")):
        shares = sum(getattr(effect, name) for effect in found.messages)
        assert shares + found.own[kind] + found.marks[kind] == pytest.approx(1, abs=1e-5)
    assert found.own[0] == pytest.approx(float(weights[len(prompt) :].sum()), abs=1e-5)


@pytest.mark.parametrize("method", ["prefix", "prompt"])
def test_virtual_tokens_have_their_share(make_policy: MakePolicy, method: str) -> None:
    found = dependences(make_policy(method), TALK, turns_of(make_policy(method)), CONFIG, [0])[0]
    shares = sum(effect.attention for effect in found.messages)
    assert shares + found.own[0] + found.marks[0] == pytest.approx(1, abs=1e-5)


def played(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> list[Trajectory]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    episodes = [(i, (0, 0, 1, i), (0, 0, 2, i)) for i in range(2)]
    with EnvPool(EnvConfig("text_envs:tests/Delayed-v0")) as pool:
        return collect(policy.generation_model(), policy.template, pool, episodes, CONFIG)


def test_what_is_read_of_an_episode_is_what_was_sampled_after(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for t in played(policy, monkeypatch):
        turns = agent_turns(t)
        for turn, found in enumerate(dependences(policy, t.conversation, turns, CONFIG)):
            own = [i for i, number in enumerate(t.turns) if number == turn]
            sampled = sum(t.sampled_logprobs[i] for i in own)
            assert found.logprob == pytest.approx(sampled, abs=1e-3)


def test_agents_that_think_have_contexts_of_their_own(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = THINKER
    policy.template = ChatTemplate(tokenizer, setting="3")
    for t in played(policy, monkeypatch):
        assert len(t.begins) == 3
        turns = agent_turns(t)
        for turn, found in enumerate(dependences(policy, t.conversation, turns, CONFIG)):
            own = [i for i, number in enumerate(t.turns) if number == turn]
            sampled = sum(t.sampled_logprobs[i] for i in own)
            assert found.logprob == pytest.approx(sampled, abs=1e-3)


def test_a_thinkers_earlier_reply_is_replaced_and_not_dropped(policy: Policy) -> None:
    """Its text is in what is read later; without a mark it would be taken for its thought."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = THINKER
    policy.template = ChatTemplate(tokenizer, setting="9")
    said = [turn_of(policy.template, m.content, "hm") for m in TALK if m.role == "assistant"]
    turns = [AgentTurn(ids, [True] * len(ids)) for ids in said]
    reader = _Reader(policy, TALK, turns, CONFIG)
    found = [tokenizer.decode([reader.prompts[1][i] for i in s]) for s in reader._spans(1)]
    assert found == [m.content for m in TALK[:4]]
    changed = str(tokenizer.decode(reader.blanked[2][0][1]))
    assert "<assistant>...<|im_end|>" in changed and "Which" not in changed


def test_rank_correlation_by_hand() -> None:
    """Ranks 0, 1.5, 1.5, 3 and 0, 2, 1, 3: 4.5 over the root of 4.5 times 5."""
    assert rank_correlation([1, 2, 2, 5], [0.1, 0.3, 0.2, 9]) == pytest.approx(0.9**0.5)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(rank_correlation([1, 2], [1, 2]))
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_a_model_that_is_run_row_by_row_tells_its_own_attention(make_policy: MakePolicy) -> None:
    """The same model, packed, has the same; values it does not tell."""
    packed, rows = make_policy(), make_policy()
    take_by_rows(rows.hf, ByRows())
    expected, found = (dependences(p, TALK, turns_of(p), CONFIG)[1] for p in (packed, rows))
    assert found.logprob == pytest.approx(expected.logprob, abs=1e-4)
    for own, other in zip(found.messages, expected.messages, strict=True):
        assert own.attention == pytest.approx(other.attention, abs=1e-5)
        assert math.isnan(own.contribution)
    assert found.own[0] == pytest.approx(expected.own[0], abs=1e-5)
    assert found.marks[0] == pytest.approx(expected.marks[0], abs=1e-5)
    assert found.agreement[0] == pytest.approx(expected.agreement[0])
    assert math.isnan(found.agreement[1])


@pytest.mark.parametrize("kinds", [0, 2])
def test_what_is_no_attention_is_not_taken_for_it(
    kinds: int, make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State-space layers tell none, RWKV its states, MiniMax's linear layers sums."""
    policy = make_policy()
    forward = policy.hf.forward

    def without(**kwargs: Any) -> Any:
        out, n = forward(**kwargs), kwargs["input_ids"].shape[1]
        if kwargs.get("output_attentions"):
            out.attentions = (torch.ones(1, n, 7), torch.full((1, 2, n, n), 0.3))[:kinds] or None
        return out

    take_by_rows(policy.hf, ByRows())
    monkeypatch.setattr(policy.hf, "forward", without)
    found = dependences(policy, TALK, turns_of(policy), CONFIG, [1])[0]
    assert all(math.isnan(effect.attention) for effect in found.messages)
    assert math.isnan(found.own[0]) and not math.isnan(found.messages[0].occlusion)
