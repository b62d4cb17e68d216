"""Episodes of transcripts have the tokens that their text has; whole groups are read together."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlchat.cli.config_file import default_options
from rlchat.errors import UserError
from rlchat.inference.scripted_agent import ScenarioAgent
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.policy import Policy
from rlchat.models.tiny import byte_tokenizer
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.env_pool import EnvPool
from rlchat.rollout.environment import EnvConfig
from rlchat.rollout.episodes import play_episodes
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.config import TrainConfig
from rlchat.training.inspection.episodes import played, recorded, retold, together
from rlchat.training.inspection.explanation import explain_episode, token_texts
from rlchat.training.inspection.opened_run import OpenedRun, open_run
from rlchat.training.run_folder import RunFolder, transcript

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


@pytest.fixture(scope="module")
def opened(finished_run: Path) -> OpenedRun:
    config = default_options(TrainConfig, "train", [finished_run])
    return open_run(config, RunFolder(finished_run))


def test_the_run_is_as_it_was_left(opened: OpenedRun, finished_run: Path) -> None:
    """The adapter is the run's, and its reference the warm start."""
    assert not opened.policy.is_reference
    kept = json.loads((finished_run / "checkpoint" / "state.json").read_text())
    assert opened.state.scale.count == kept["scale"]["count"]
    assert opened.env_of("") == opened.config.mixture.envs[0]
    with pytest.raises(UserError, match="the episode is of other"):
        opened.env_of("other")


def test_a_played_episode_is_told_again(opened: OpenedRun) -> None:
    """Turns, parts and what was privileged; random bytes are no text, so that tokens differ."""
    found = played(opened, 1, "train", 5, beside=2)
    for trajectory in found.trajectories:
        again = retold(opened, json.loads(json.dumps(transcript(trajectory))))
        assert again.conversation == trajectory.conversation
        assert again.privileged == trajectory.privileged
        assert again.parts == trajectory.parts and len(set(again.turns)) == len(
            set(trajectory.turns)
        )
        assert (again.terminated, again.truncated) == (trajectory.terminated, trajectory.truncated)


def test_tokens_are_those_of_the_text(opened: OpenedRun) -> None:
    """What the expert says, in a run whose replies may be as long."""
    config = RolloutConfig(rows=1, max_new_tokens=300, max_tokens=4000)
    roomy = OpenedRun(
        TrainConfig(rollout=config), opened.run, opened.policy, opened.state, opened.ranks
    )
    with EnvPool(EnvConfig()) as pool:
        (episode,) = play_episodes(ScenarioAgent("expert"), pool, [0], 0, 0.0, config)
    trajectory = Trajectory(0, episode.seed, [], parts=episode.parts, terminated=True)
    trajectory.conversation = episode.conversation
    again = retold(roomy, transcript(trajectory))
    last = max(i for i, m in enumerate(episode.conversation) if m.role == "assistant")
    whole = opened.policy.template.conversation(episode.conversation[: last + 1])
    assert again.ids == whole.ids and again.action_mask == whole.action_mask


def test_a_reply_that_was_cut_has_no_end(opened: OpenedRun) -> None:
    row = transcript(played(opened, 0, "train", 5, beside=0).chosen)
    row["messages"][2]["content"] = "A reply of more than eight tokens"
    most = opened.config.rollout.max_new_tokens
    assert sum(turn == 0 for turn in _turns(opened, row)) == most


def _turns(opened: OpenedRun, row: dict[str, object]) -> list[int]:
    return retold(_blind(opened), row).turns


def _blind(opened: OpenedRun) -> OpenedRun:
    """The same run with a critic that reads nothing privileged, so that nothing is replayed."""
    critic = replace(opened.config.critic, privileged=False)
    return replace(opened, config=replace(opened.config, critic=critic))


def test_agents_that_think_are_told_again(
    opened: OpenedRun, make_policy: Callable[..., Policy]
) -> None:
    """Each turn in a context of its own, after nothing of earlier thoughts."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = THINKER
    policy = make_policy()
    policy.template = ChatTemplate(tokenizer, setting="9")
    row = transcript(played(opened, 0, "train", 5, beside=0).chosen)
    row["messages"] = row["messages"][:2] + [
        {"role": role, "content": text}
        for role, text in (("assistant", "Which?"), ("user", "This."), ("assistant", "Good."))
    ]
    row |= {"parts": [{"a": 1.0}] * 2, "costs": [{}, {}], "thoughts": ["hm", "so"]}
    row |= {"truncated": False, "terminated": True}
    again = retold(replace(_blind(opened), policy=policy), row)
    assert len(again.begins) == 2
    second = str(tokenizer.decode(again.ids[again.begins[1] :]))
    assert second.count("<think>") == 1 and "hm" not in second
    assert second.endswith("<assistant><think>so</think>Good.<|im_end|>")
    first = str(tokenizer.decode(again.ids[: again.begins[1]]))
    assert first.endswith("<think>hm</think>Which?<|im_end|>")


def test_whole_groups_are_read_together() -> None:
    assert together(range(8), 5, 0, 4) == {4, 5, 6, 7}
    assert together(range(8), 2, 2, 1) == {1, 2, 3}
    assert together(range(8), 2, 99, 1) == set(range(8))


def test_others_change_only_what_whitening_takes_off(opened: OpenedRun) -> None:
    alone, whole = (explain_episode(opened, recorded(opened, 2, 1, n)) for n in (0, 5))
    assert (alone.beside, whole.beside) == (0, 5)
    for a, b in zip(alone.turns, whole.turns, strict=True):
        assert a.advantage.parts() == pytest.approx(b.advantage.parts(), abs=1e-4)


def test_characters_of_several_tokens_are_whole(policy: Policy) -> None:
    ids = policy.template.tokenizer("añ😀b")["input_ids"]
    assert token_texts(policy, list(ids)) == ["a", "", "ñ", "", "", "", "😀", "b"]
