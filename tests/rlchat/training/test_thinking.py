"""Agents that think: what is sampled, seen and trained is one, and only replies leave them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlchat.algorithms import ppo
from rlchat.algorithms.advantages import estimate, estimator_settings
from rlchat.algorithms.annotate import ALTERNATIVES, annotate
from rlchat.algorithms.batch import pack
from rlchat.algorithms.config import CriticConfig, PPOConfig
from rlchat.algorithms.critic import Critic
from rlchat.algorithms.optimizer import MasterAdamW
from rlchat.algorithms.update import Learner, accumulate
from rlchat.cli.main import main
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.inference.agents import ConversationSettings
from rlchat.inference.model_agent import ModelAgent
from rlchat.models.adapter_io import reading_of
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.logits import token_logprobs
from rlchat.models.policy import POLICY, Policy
from rlchat.models.tiny import byte_tokenizer
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.trajectory import Trajectory
from rlchat.statistics import RunningStd
from rlchat.training.config import TrainConfig, WarmStartConfig
from rlchat.training.loop import train
from rlchat.training.run_folder import RunFolder
from rlchat_envs import Message

MakePolicy = Callable[..., Policy]
# The prompt begins a thought; a longer conversation leaves those out that the user has answered.
THINKER = (
    "{% set ns = namespace(asked=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' and m.thinking and loop.index0 > ns.asked %}"
    "<think>{{ m.thinking }}</think>{% endif %}"
    "{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking %}<think>{% endif %}{% endif %}"
)


def thinker(setting: str) -> ChatTemplate:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = THINKER
    return ChatTemplate(tokenizer, setting=setting)


@pytest.fixture
def thinking(make_policy: MakePolicy) -> Policy:
    """A policy whose thoughts end after three tokens, if not by themselves."""
    policy = make_policy()
    policy.template = thinker("3")
    return policy


@pytest.fixture(autouse=True)
def _environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


CONFIG = RolloutConfig(rows=3, max_new_tokens=4, max_tokens=160)


def played(policy: Policy, config: RolloutConfig = CONFIG, count: int = 5) -> list[Trajectory]:
    episodes = [(i, (0, 0, 1, i), (0, 0, 2, i)) for i in range(count)]
    with EnvPool(EnvConfig("text_envs:tests/Delayed-v0")) as pool:
        return collect(policy.generation_model(), policy.template, pool, episodes, config)


def contexts(trajectory: Trajectory) -> list[tuple[int, int]]:
    return list(zip(trajectory.begins, [*trajectory.begins[1:], len(trajectory.ids)], strict=True))


@pytest.mark.parametrize("engine", ["own", "paged"])
def test_each_turn_is_sampled_after_what_the_template_leaves(thinking: Policy, engine: str) -> None:
    """No earlier thought is there, and logprobs are those of a forward over what is."""
    model, template = thinking.generation_model().model, thinking.template
    for t in played(thinking, RolloutConfig(3, 4, 160, engine=engine)):  # type: ignore[arg-type]
        assert len(t.begins) == len(t.parts) == len(t.thoughts) == 3
        replies = [m.content for m in t.conversation if m.role == "assistant"]
        for turn, (begin, end) in enumerate(contexts(t)):
            ids = t.ids[begin:end]
            acts = [i for i in range(len(ids)) if t.turns[begin + i] == turn]
            assert [k for k in t.turns[begin:end] if k >= 0] == [turn] * len(acts)
            before = str(template.tokenizer.decode(ids[: acts[0]]))
            assert before.count("<think>") == 1 and before.endswith("<assistant><think>")
            said = ids[acts[0] - template.opened(ids[: acts[0]]) :]
            assert template.text(said) == replies[turn]
            assert template.thought(said) == t.thoughts[turn]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0]
            known = logits.log_softmax(-1)
            for i in acts:
                expected = float(known[i - 1, ids[i]])
                assert t.sampled_logprobs[begin + i] == pytest.approx(expected, abs=1e-4)


def test_a_thought_is_ended_with_tokens_that_are_no_actions(thinking: Policy) -> None:
    """Three tokens of thought, the template's mark, and at most four of a reply."""
    template, ended = thinking.template, 0
    mark = template.encoding.template("</think>")
    for t in played(thinking):
        for turn, (begin, end) in enumerate(contexts(t)):
            acts = [i for i in range(begin, end) if t.turns[i] == turn]
            between = [i for i in range(acts[0], acts[-1]) if t.turns[i] != turn]
            if between:
                ended += 1
                assert [t.ids[i] for i in between] == mark
                assert between[0] == acts[0] + 3
            assert len(acts) <= 3 + 4
    assert ended


def test_what_was_considered_is_read_in_each_context_alone(thinking: Policy) -> None:
    """Of several contexts one behind the other, the one in which a token was sampled."""
    batch = pack(played(thinking))
    critic = Critic(thinking.hf.config.hidden_size, CriticConfig(width=8))
    annotated = annotate(thinking, critic, batch, 60, range(5))
    for b in range(5):
        best: list[torch.Tensor] = []
        for begin, end in contexts_of(batch.begins[b], int(batch.lengths[b])):
            (acts,) = batch.action_mask[b, begin:end].nonzero(as_tuple=True)
            with torch.no_grad(), thinking.using(POLICY):
                logits = thinking.model(input_ids=batch.ids[b, None, begin:end]).logits[0]
            best.append(logits.log_softmax(-1)[acts - 1].topk(ALTERNATIVES).values)
        torch.testing.assert_close(
            annotated.alternatives[b][1], torch.cat(best), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_training_sees_what_was_seen(thinking: Policy, budget: int) -> None:
    """Logprobs of the forward are the sampler's, and the gradient that of each context alone."""
    batch = pack(played(thinking))
    critic = Critic(thinking.hf.config.hidden_size, CriticConfig(width=8))
    annotated = annotate(thinking, critic, batch, budget)
    mask = batch.action_mask
    assert torch.allclose(annotated.logprobs[mask], batch.sampled_logprobs[mask], atol=1e-4)
    config = PPOConfig(token_budget=budget)
    scale = RunningStd()
    scale.add([0.0, 1.0])
    everyone = [(int(i), 3) for i in batch.index]
    settings = estimator_settings(config, critic.config)
    estimated = estimate(annotated, settings, 0.05, scale, everyone)
    learner = Learner(
        thinking,
        critic,
        MasterAdamW(thinking.parameters(), 1e-3),
        torch.optim.Adam(critic.parameters()),
        Distributed(cpu=True),
    )
    accumulate(learner, estimated, torch.arange(5), config, 10.0)
    ours = [p.grad.clone() for p in thinking.parameters() if p.grad is not None]
    thinking.model.zero_grad()
    for b in range(5):
        for begin, end in contexts_of(batch.begins[b], int(batch.lengths[b])):
            row = batch.ids[b, begin:end]
            (acts,) = batch.action_mask[b, begin:end].nonzero(as_tuple=True)
            packing = thinking.packing([row])
            at = packing.at(torch.zeros_like(acts), acts - 1)
            last, _ = thinking.trunk_states(packing.ids, packing, at)
            new = token_logprobs(thinking.head, last, row[acts])
            place = begin + acts
            old, gain = annotated.logprobs[b, place], estimated.advantages[b, place]
            ppo.policy_loss(new, old, gain, config.clip, 10.0, None).loss.backward()
    alone = [p.grad for p in thinking.parameters() if p.grad is not None]
    assert len(ours) == len(alone) > 0
    for x, y in zip(ours, alone, strict=True):
        assert torch.allclose(x, y, atol=1e-5, rtol=1e-3)


def contexts_of(begins: tuple[int, ...], length: int) -> list[tuple[int, int]]:
    return list(zip(begins, [*begins[1:], length], strict=True))


def test_a_thought_without_a_budget_shares_that_of_the_reply(make_policy: MakePolicy) -> None:
    policy = make_policy()
    policy.template = thinker("on")
    for t in played(policy):
        assert all(t.turns.count(k) <= 4 for k in range(3))
        assert all(t.parts[k].get("cut_off", 0.0) < 0 or t.turns.count(k) < 4 for k in range(3))


def test_there_has_to_be_room_for_two_turns_with_their_thoughts(thinking: Policy) -> None:
    with pytest.raises(UserError, match=r"at least two turns with their thoughts \(30\); got 29"):
        played(thinking, RolloutConfig(3, 4, 29))


@pytest.mark.parametrize("setting", ["0", "-3", "yes", "1.5"])
def test_a_setting_is_off_on_or_a_number(setting: str) -> None:
    with pytest.raises(UserError, match="expected off, on or a number of tokens"):
        RolloutConfig(thinking=setting)


def test_a_conversation_streams_replies_and_drops_thoughts(thinking: Policy) -> None:
    """The same words as in a rollout with the same noise; another reply may take the place."""
    agent = ModelAgent.of(thinking)
    settings = ConversationSettings(max_new_tokens=4, max_tokens=200, temperature=1.0)
    talk = agent.start(0, settings)
    conversation: tuple[Message, ...] = (Message("user", "Hello"),)
    for _ in range(3):
        pieces: list[str] = []
        reply = talk.reply(conversation, {}, pieces.append)
        assert "".join(pieces) == reply.text and "think" not in reply.text
        assert talk.resampler is not None
        talk.resampler.take(other := talk.resampler.another())
        conversation = (*conversation, Message("assistant", other.text), Message("user", "Yes"))
        ids = talk._context.ids
        assert str(thinking.template.tokenizer.decode(ids)).count("<think>") == 1
    assert talk._decoder.length(talk._row) >= 0


def test_an_adapter_remembers_that_it_thinks(make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy()
    assert policy._reading is not None
    policy.template = thinker("off")
    policy.think("20")
    policy.save(tmp_path / "adapter")
    assert reading_of(tmp_path / "adapter", policy.hf).thinking == "20"
    policy.think("")
    assert policy.template.setting == "20"
    policy.think("off")
    policy.save(tmp_path / "other")
    assert reading_of(tmp_path / "other", policy.hf).thinking == "off"
    record = tmp_path / "adapter" / "rlchat_base.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"thinking": "maybe"}))
    assert reading_of(tmp_path / "adapter", policy.hf).thinking == "off"


@pytest.mark.long
def test_it_learns_while_it_thinks(make_policy: MakePolicy, tmp_path: Path) -> None:
    """The first of three replies decides what is earned at the end, each after a thought."""
    policy = make_policy(noise=0.0)
    policy.template = thinker("2")
    config = TrainConfig(
        env="text_envs:tests/Delayed-v0",
        iterations=24,
        episodes=64,
        warm_start=WarmStartConfig(demonstrations=0),
        rollout=RolloutConfig(rows=64, max_new_tokens=2, max_tokens=160, cut_off_penalty=0.0),
        ppo=PPOConfig(learning_rate=1e-2, beta=0.0, epochs=2, minibatches=2),
        critic=CriticConfig(learning_rate=1e-3, epochs=20, width=64),
    )
    run = RunFolder(tmp_path / "run")
    train(config, policy, run, Distributed(cpu=True))
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    first = sum(row["return"] for row in rows[:2]) / 2
    last = sum(row["return"] for row in rows[-4:]) / 4
    assert first < 0.4 and last > 0.75, [row["return"] for row in rows]
    transcript = json.loads((run.transcripts / "0001.jsonl").read_text().splitlines()[0])
    assert len(transcript["thoughts"]) == 3
    assert not any("think" in m["content"] for m in transcript["messages"])


def test_the_command_line_refuses_to_let_a_model_think_that_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is written or played."""
    argv = f"train --policy tiny --iterations 1 --run {tmp_path / 'run'} --rollout.thinking on"
    assert main(argv.split()) == 2
    assert "expected a model whose chat template has thoughts" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


def test_demonstrations_are_written_without_thoughts() -> None:
    talk = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    talk = (*talk, Message("assistant", "d"))
    assert thinker("3").conversation(talk) == thinker("off").conversation(talk)
    assert thinker("3").opening(talk[:1]) != thinker("off").opening(talk[:1])


def test_a_conversation_has_room_for_its_thoughts_or_is_refused(thinking: Policy) -> None:
    with pytest.raises(UserError, match=r"at least two turns with their thoughts \(30\); got 29"):
        ModelAgent.of(thinking).start(0, ConversationSettings(max_new_tokens=4, max_tokens=29))
