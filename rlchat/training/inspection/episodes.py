"""Episodes of a run with their tokens: written anew from its transcripts, or played."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlchat.errors import UserError
from rlchat.models.templates.context import Context, prompts_of, turn_of
from rlchat.rollout.collect import collect
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.hosting.isolated import kind_of
from rlchat.rollout.seeding import Purpose
from rlchat.rollout.trajectory import Trajectory
from rlchat.training.inspection.opened_run import OpenedRun
from rlchat.training.run_folder import RunFolder
from rlchat_envs import Conversation, declared
from rlchat_envs.core.messages import of_row

OnEpisode = Callable[[object], None]


@dataclass(frozen=True)
class Episodes:
    """Episodes that advantages are estimated from together, and the one that is asked about.

    Attributes:
        trajectories: with their tokens, in the order of their indices.
        number: place among them of the one that is asked about.
        split: side of the environment that they were played on.
    """

    trajectories: list[Trajectory]
    number: int
    split: str

    @property
    def chosen(self) -> Trajectory:
        """The episode that is asked about."""
        return self.trajectories[self.number]


def recorded(
    opened: OpenedRun, episode: int, iteration: int | None = None, beside: int = 15
) -> Episodes:
    """An episode of a run's transcripts, and others of its iteration, with their tokens.

    Transcripts have text: the tokens are those that the text has when it is written again.

    Args:
        opened: the run.
        episode: its index in the iteration.
        iteration: None for the last one.
        beside: how many others.

    Raises:
        UserError: there is no such episode, or its environment does not play it again, which the
            critic needs that reads privileged information.
    """
    rows = read_transcripts(opened.run, iteration)
    found = [number for number, row in enumerate(rows) if row["index"] == episode]
    if not found:
        raise UserError(
            f"expected an episode from {rows[0]['index']} to {rows[-1]['index']}; the transcripts "
            f"have no episode {episode}; name another with --episode"
        )
    group = opened.config.ppo.group_size
    kept = together([row["index"] for row in rows], episode, beside, group)
    trajectories = [retold(opened, row) for row in rows if row["index"] in kept]
    place = [trajectory.index for trajectory in trajectories].index(episode)
    return Episodes(trajectories, place, "train")


def played(
    opened: OpenedRun,
    episode: int,
    split: str,
    seed: int,
    beside: int = 15,
    temperature: float = 1.0,
    on_episode: OnEpisode | None = None,
) -> Episodes:
    """Play an episode with the run's agent, and others beside it, scored as in training.

    Args:
        opened: the run.
        episode: its number, which with the seed decides user and goal as in an evaluation.
        split: side of the environment.
        seed: of the evaluation.
        beside: how many others are played.
        temperature: of the sampling; 1 is that of training.
        on_episode: told of each as it ends.
    """
    config, policy, group = opened.config, opened.policy, opened.config.ppo.group_size
    first = max(0, episode // group * group - beside)
    numbers = together(range(first, first + beside + 2 * group), episode, beside, group)
    keys = [
        (i, (seed, Purpose.EVALUATE, i // group), (seed, Purpose.ANSWER, i))
        for i in sorted(numbers)
    ]
    with config.mixture.pool(split, kind_of(config.rollout)) as pool:
        trajectories = collect(
            policy.generation_model(),
            policy.template,
            pool,
            keys,
            config.rollout,
            temperature,
            on_episode,
        )
    policy.free_merged()
    trajectories = opened.state.reward.score(trajectories, opened.ranks)
    place = [trajectory.index for trajectory in trajectories].index(episode)
    return Episodes(trajectories, place, split)


def together(indices: Sequence[int], episode: int, beside: int, group_size: int) -> set[int]:
    """Indices of an episode and of so many others, whole groups of those that share a start."""
    own = episode // group_size
    near = sorted(indices, key=lambda i: (abs(i // group_size - own), i))
    groups = {i // group_size for i in near[: beside + 1]}
    return {i for i in indices if i // group_size in groups}


def read_transcripts(run: RunFolder, iteration: int | None = None) -> list[dict[str, Any]]:
    """The episodes of an iteration; of the last one if none is named.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    known = sorted(run.transcripts.glob("[0-9]*.jsonl"))
    if not known:
        raise UserError(
            f"expected transcripts of a training in {run.transcripts}; there are none; name "
            "another run, or play an episode with --split dev"
        )
    path = known[-1] if iteration is None else run.transcripts / f"{iteration:04d}.jsonl"
    if path not in known:
        raise UserError(
            f"expected an iteration from {int(known[0].stem)} to {int(known[-1].stem)}; "
            f"{run.folder} has no iteration {iteration}; name another with --iteration"
        )
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for row in rows:
            said = sum(m["role"] == "assistant" for m in row["messages"])
            if said != len(row["parts"]) or not isinstance(row["index"] + row["seed"], int):
                raise ValueError
        if not rows:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"expected one whole episode a line in {path}; it cannot be read; name another "
            "iteration with --iteration, or play an episode with --split dev"
        ) from error
    return rows


def retold(
    opened: OpenedRun,
    row: Mapping[str, Any],
    split: str = "train",
    env: EnvConfig | None = None,
) -> Trajectory:
    """An episode of the transcripts, or of an evaluation, with the tokens of its text.

    Args:
        opened: the run.
        row: the episode.
        split: of the environment.
        env: in which it was played; if left out, that of the run.

    Raises:
        UserError: its environment does not play it again; see `recorded`.
    """
    template, rollout = opened.policy.template, opened.config.rollout
    conversation = of_row(row)
    thoughts = row.get("thoughts", [])
    replies = [m.content for m in conversation if m.role == "assistant"]
    most = Context(template, rollout.max_new_tokens).longest_turn
    turns = [  # one that was cut off has no end
        turn_of(template, text, thought, declared(conversation))[:most]
        for text, thought in zip(replies, thoughts or [""] * len(replies), strict=True)
    ]
    prompts = prompts_of(
        template, conversation, turns, rollout.max_new_tokens, rollout.max_tokens, row["truncated"]
    )
    trajectory = Trajectory(row["index"], row["seed"], list(prompts[0]), conversation=conversation)
    for number, parts in enumerate(row["parts"]):
        trajectory.act(turns[number], [0.0] * len(turns[number]))
        trajectory.parts.append(parts)
        if number + 1 < len(prompts):
            _follow(trajectory, prompts[number] + turns[number], prompts[number + 1])
    trajectory.costs, trajectory.success = row["costs"], row["success"]
    trajectory.terminated, trajectory.truncated = row["terminated"], row["truncated"]
    trajectory.env, trajectory.thoughts = row.get("env", ""), thoughts
    played_in = env or opened.env_of(trajectory.env)
    trajectory.privileged = _privileged(opened, trajectory, split, played_in)
    return trajectory


def _follow(trajectory: Trajectory, before: list[int], prompt: list[int]) -> None:
    """Append what was read before a turn, as more of the same context or as another."""
    if prompt[: len(before)] == before:
        trajectory.observe(prompt[len(before) :])
    else:
        trajectory.begin(prompt)


def _privileged(
    opened: OpenedRun, trajectory: Trajectory, split: str, config: EnvConfig
) -> list[Mapping[str, Any]]:
    """What the environment hid before each turn, found by saying the same things again."""
    turns = len(trajectory.parts) + trajectory.truncated
    if not opened.config.critic.privileged:
        return [{}] * turns
    with TextEnv(config, split) as env:
        if not env.ours:
            return [{}] * turns
        env.reset(trajectory.seed)
        found = [env.privileged]
        for text in (m.content for m in trajectory.conversation if m.role == "assistant"):
            env.step(text)
            found.append(env.privileged)
        if not _same_talk(env.conversation, trajectory.conversation):
            raise UserError(
                f"expected {config.env} to play episode {trajectory.index} again; other things "
                "were said than was kept; play an episode with rlchat explain --split dev"
            )
    return found[:turns]


def _same_talk(played: Conversation, known: Conversation) -> bool:
    """Whether two conversations are one, but for what follows the last turn of the shorter."""
    return all(a == b for a, b in zip(played, known, strict=False))
