"""Counterfactual values against the exact ones of environments that can be enumerated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlchat.errors import UserError
from rlchat.evaluation.attribution.counterfactual import alternatives, outcomes, snapshot_of
from rlchat.inference.model_agent import ModelAgent
from rlchat.inference.scripted_agent import ObjectAgent, ScenarioAgent
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.policy import Policy
from rlchat.models.templates.context import Context, prompts_of, turn_of
from rlchat.models.tiny import byte_tokenizer
from rlchat.rollout.branching import BranchingRollouts, Snapshot
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat_envs import Conversation, Message

ASK_FIRST = EnvConfig("text_envs:tests/AskFirst-v0")
SHORT = RolloutConfig(rows=64, max_new_tokens=1, max_tokens=300)
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


@pytest.fixture(autouse=True)
def _environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


class Dice:
    """Asks with probability one half, and else answers one thing or the other, equally often."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def reply(self, conversation: Conversation, privileged: Mapping[str, Any]) -> str:
        return "}{|}"[int(self.rng.integers(4))]  # acts 2, 0, 1 and 2


def exact(turn: int) -> float:
    """The value of AskFirst before a turn, from 0, of three: half of what follows a question."""
    return 0.0 if turn == 3 else 0.5 * (-0.1 + exact(turn + 1))


def test_messages_meet_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their differences are paired by it."""
    heard: list[list[int]] = []
    play_on = BranchingRollouts.play_on

    def hearing(self: Any, agent: Any, snapshots: Any, noises: Any = None, **more: Any) -> Any:
        heard.append(list(noises))
        return play_on(self, agent, snapshots, noises=noises, **more)

    monkeypatch.setattr(BranchingRollouts, "play_on", hearing)
    rollouts, snapshot = BranchingRollouts(ASK_FIRST), Snapshot(11, ())
    outcomes(rollouts, ObjectAgent(Dice()), snapshot, ["}", "}"], 3)
    assert heard == [[0, 1, 2, 0, 1, 2]]


def test_values_of_a_random_agent_are_the_exact_ones() -> None:
    """Of a question, after which chance decides, and of both answers, which end the episode."""
    rollouts = BranchingRollouts(ASK_FIRST)
    for turn in range(3):
        with TextEnv(ASK_FIRST, "train") as env:
            env.reset(11)
            goal = env.env.unwrapped.goal  # type: ignore[attr-defined]
        snapshot = Snapshot(11, ("}",) * turn)
        asked, right, wrong = outcomes(
            rollouts, ObjectAgent(Dice()), snapshot, ["}", "{|"[goal], "|{"[goal]], 400
        )
        value = -0.1 + exact(turn + 1)
        assert asked.returns.low <= value <= asked.returns.high
        assert (asked.times, right.times) == (400 if turn < 2 else 1, 1)
        assert right.returns.low == right.returns.mean == right.returns.high == 1
        assert wrong.returns.mean == -1
        assert right.difference is not None and asked.difference is None
        assert right.difference.low <= 1 - value <= right.difference.high
        assert right.success is None  # the environment tells none


def exact_last_value(policy: Policy, conversation: Conversation, goal: int) -> float:
    """The value of AskFirst's last turn, by the probability of each token that may be said."""
    said = [m.content for m in conversation if m.role == "assistant"]
    turns = [policy.template.reply(text) for text in said]
    (*_, prompt) = prompts_of(policy.template, conversation, turns, 1, 300, following=True)
    with torch.no_grad():
        logits = policy.generation_model().model(input_ids=torch.tensor([prompt])).logits[0, -1]
    value = 0.0
    for token, probability in enumerate(logits.double().softmax(-1).tolist()):
        text = policy.template.text([token])
        act = ord(text[0]) % 3 if text and " " < text[0] <= "~" else 2
        finished = token in policy.template.stop_ids
        reward = -0.1 if act == 2 else 1.0 if act == goal else -1.0
        value += probability * (reward - (0.0 if finished else 0.2))  # of what is cut off
    return value


def test_values_of_a_model_are_the_exact_ones(make_policy: Callable[..., Policy]) -> None:
    """After a question in the second of three turns the last one is one token of the model's."""
    policy, rollouts = make_policy(), BranchingRollouts(ASK_FIRST, rollout=SHORT)
    agent = ModelAgent.of(policy)
    for seed in (3, 4, 5):
        snapshot = Snapshot(seed, ("}",))
        (asked,) = outcomes(rollouts, agent, snapshot, ["}"], 400)
        with TextEnv(ASK_FIRST, "train") as env:
            env.reset(seed)
            for _ in range(2):
                env.step("}")
            goal = env.env.unwrapped.goal  # type: ignore[attr-defined]
            value = -0.1 + exact_last_value(policy, env.conversation, goal)
        assert asked.returns.low <= value <= asked.returns.high
        assert asked.returns.high - asked.returns.low < 0.3


def test_alternatives_are_what_the_model_would_say(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy()
    rollouts = BranchingRollouts(ASK_FIRST, rollout=SHORT)
    found = alternatives(rollouts, ModelAgent.of(policy), Snapshot(3, ("}",)), 64)
    assert sum(count for _, count in found) == 64 and len(found) > 1
    assert [count for _, count in found] == sorted((count for _, count in found), reverse=True)


def test_success_has_its_interval_where_it_is_told() -> None:
    """The expert goes on: it solves what a useless question did not spoil."""
    rollouts = BranchingRollouts(EnvConfig(), "dev")
    said = "Could you tell me your order number, please?"
    first, second = outcomes(rollouts, ScenarioAgent("expert"), Snapshot(5), [said, "Hm."], 6)
    assert first.success is not None and first.success.mean == 1 and first.success.low < 1
    assert second.difference is not None and second.difference.mean < 0


def talk(config: EnvConfig, split: str, seed: int, said: tuple[str, ...]) -> Conversation:
    with TextEnv(config, split) as env:
        env.reset(seed)
        for text in said:
            env.step(text)
        return env.conversation


def test_a_snapshot_is_checked_against_the_record() -> None:
    conversation = talk(ASK_FIRST, "train", 11, ("}", "}"))
    assert snapshot_of(ASK_FIRST, "train", 11, conversation, 1) == Snapshot(11, ("}",))
    with pytest.raises(UserError, match="expected a turn from 0 to 1; the episode has no turn 2"):
        snapshot_of(ASK_FIRST, "train", 11, conversation, 2)
    other = (*conversation[:2], Message("user", "something else"), *conversation[3:])
    with pytest.raises(UserError, match="other things were said than in the record"):
        snapshot_of(ASK_FIRST, "train", 11, other, 1)


def test_environments_that_do_not_say_so_are_not_played_again() -> None:
    import gymnasium as gym
    from text_envs import AskFirst

    class Undeclared(AskFirst):
        metadata = {}  # noqa: RUF012

    gym.register("tests/Undeclared-v0", Undeclared)
    config = EnvConfig("tests/Undeclared-v0")
    conversation = talk(config, "train", 1, ("}",))
    with pytest.raises(UserError, match="does not say that its seed decides all"):
        snapshot_of(config, "train", 1, conversation, 0)


def test_agents_that_think_go_on_from_what_they_would_have_read(
    make_policy: Callable[..., Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a snapshot they read the same tokens as in the episode itself, and no thought."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = THINKER
    policy = make_policy()
    policy.template = ChatTemplate(tokenizer, setting="2")
    opened: list[list[int]] = []
    begin = Context.open

    def noted(context: Context, messages: Conversation, room: int) -> None:
        begin(context, messages, room)
        opened.append(list(context.ids))

    monkeypatch.setattr(Context, "open", noted)
    rollouts = BranchingRollouts(ASK_FIRST, rollout=SHORT)
    (episode,) = rollouts.play_on(ModelAgent.of(policy), [Snapshot(3, ("}", "}"))])
    said = [turn_of(policy.template, text, "hm") for text in "}}?"]
    prompts = prompts_of(policy.template, episode.conversation, said, 1, 300)
    assert opened[0] == prompts[2]
    assert str(tokenizer.decode(opened[0])).count("<think>") == 1
