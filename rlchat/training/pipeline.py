"""Whole trainings: warm start, PPO, evaluation before and after; or imitation alone."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from rlchat import files
from rlchat.distributed import Distributed
from rlchat.errors import UserError
from rlchat.evaluation.evaluate import EvaluationResult
from rlchat.listener import Listener
from rlchat.models.adapter_io import adapter_folder, base_spec, read_config
from rlchat.models.adapters import check_share, leave_shape
from rlchat.models.policy import Policy
from rlchat.models.templates.context import Context
from rlchat.rewards.rubric.judges import try_judge
from rlchat.rewards.rubric.questions import read_rubric
from rlchat.rollout.conversations import read_conversations
from rlchat.rollout.demonstrations import demonstrate
from rlchat.rollout.probe import probe
from rlchat.training.comparison import measure_end, measure_start
from rlchat.training.config import SFTConfig, TrainConfig, WarmStartConfig
from rlchat.training.inspection.model_card import leave_card
from rlchat.training.inspection.sft_card import leave_sft_card
from rlchat.training.learning_curve import leave_curve
from rlchat.training.loop import train
from rlchat.training.metrics import Clock
from rlchat.training.run_folder import RunFolder, to_json
from rlchat.training.sft import warm_start
from rlchat.training.tracking.tracking import Tracking, chosen
from rlchat_envs import Conversation


@dataclass
class Training:
    """One training from its settings to its evaluation; the first process alone measures.

    Attributes:
        config: the settings; of a resumed run, with no fewer iterations than it has behind it.
        run: its folder.
        distributed: the processes that train together.
        clock: seconds of each phase.
        results: the evaluation, once there is one: what PPO started from, PPO, demonstrator and
            expert; empty if none was asked for.
    """

    config: TrainConfig
    run: RunFolder
    distributed: Distributed
    clock: Clock = field(default_factory=Clock)
    results: list[EvaluationResult] = field(default_factory=list)

    @classmethod
    def begin(cls, config: TrainConfig) -> Training:
        """Check the settings against the run folder and the processes.

        Raises:
            UserError: they do not fit; nothing was written.
        """
        cpu = config.adapter.device == "cpu" or not torch.cuda.is_available()
        distributed, run = Distributed(cpu=cpu), RunFolder(config.run)
        for env in config.mixture.envs:
            probe(env, config.rollout)
        chosen(config.track)
        if config.reward.judged and distributed.main:
            read_rubric(config.reward.rubric)
            try_judge(config.reward.judge, config.reward.judging)
        if config.episodes < distributed.count:
            raise UserError(
                f"expected at least one episode for each process; got --episodes {config.episodes} "
                f"and {distributed.count} processes"
            )
        if config.resume:
            if distributed.main:
                files.recover_folder(run.checkpoint)
            distributed.wait()
            config = resumed(config, run)
        elif distributed.main:
            _refuse_to_overwrite(run)
        return cls(config, run, distributed)

    def execute(self, listener: Listener) -> None:
        """Prepare, measure, practise, measure again."""
        config, run, ranks = self.config, self.run, self.distributed
        with Tracking(chosen(config.track), run, ranks, config.resume) as tracking:
            measured = bool(config.evaluation) and ranks.main
            policy = prepare(config, run, ranks, listener)
            self.clock.lap("preparing")
            if measured:
                before = measure_start(config, policy, run, listener)
                self.clock.lap("measuring")
            train(config, policy, run, ranks, tracking.listening(listener))
            self.clock.lap("practice")
            if measured:
                self.results = measure_end(config, policy, run, listener, before)
                self.clock.lap("measuring again")
        if ranks.main:
            leave_curve(run, self.results, config)
            leave_card(run, self.results, config)


def train_agent(config: TrainConfig, listener: Listener | None = None) -> Training:
    """Fetch a model, warm-start it, train it by PPO against simulated users, evaluate it.

    Args:
        config: all settings; what is left out has the command line's defaults.
        listener: told how it goes.

    Returns:
        The run, with the evaluation before and after.

    Raises:
        UserError: settings that do not fit.
        RunError: the training could not go on; the last checkpoint is intact.
    """
    training = Training.begin(config)
    training.execute(listener or Listener())
    training.distributed.end()
    return training


def sft(config: SFTConfig, listener: Listener | None = None) -> Path:
    """Train an adapter by imitation of demonstrations, or of conversations from a file.

    Args:
        config: all settings; what is left out has the command line's defaults.
        listener: told how it goes.

    Returns:
        The adapter's folder.

    Raises:
        UserError: the folder is taken, or there is nothing to imitate.
    """
    listener = listener or Listener()
    if config.out.exists():
        raise UserError(f"expected a new folder; {config.out} exists; name another with --out")
    files.check_place(config.out)
    conversations = None
    if config.data is not None:
        conversations = read_conversations(config.data, listener, liked=True)
    drawn = conversations is None
    base, start = config.policy, adapter_folder(config.policy)
    if start is not None:
        leave_shape(config.adapter, start)
        base = base_spec(start)
    policy = Policy.create(base, config.adapter, start, config.seed, listener.say)
    if (
        conversations is None
    ):  # last: playing them takes seconds, and a wrong policy is told at once
        conversations = demonstrate(config.mixture, config.warm_start.demonstrations, config.seed)
    losses = warm(
        policy, conversations, config.warm_start, config.seed, config.out, listener, drawn
    )
    leave_sft_card(config, policy.base, len(conversations), losses)
    return config.out


def prepare(config: TrainConfig, run: RunFolder, ranks: Distributed, listener: Listener) -> Policy:
    """Bring base and warm start together; leave the PPO reference in the run folder.

    A run that has its reference is complete: what ``--policy`` once named need not be there now.
    """
    listener.phase(f"loading {config.policy}")
    begun = config.resume and run.warm_start.is_dir()
    if ranks.main and begun:
        recorded = run.read_config()
        if recorded["iterations"] != config.iterations:
            run.write_config(replace(config, resume=False), recorded["resolved"])
    elif ranks.main:
        start = adapter_folder(config.policy)
        base = config.policy if start is None else base_spec(start)
        _begin(config, run, ranks, listener, base, start)
        gc.collect()  # the policy of the warm start, before there is another
    ranks.wait()
    return reference_policy(config, run, listener)


def reference_policy(config: TrainConfig, run: RunFolder, listener: Listener) -> Policy:
    """Load the policy that PPO starts from, which is its own reference, from the run folder."""
    base = base_spec(run.warm_start)
    # One precision for warm start, PPO and all ranks: measuring it twice might give two.
    adapter = replace(config.adapter, dtype=run.read_config()["resolved"]["dtype"])
    policy = Policy.create(base, adapter, run.warm_start, config.seed, listener.say)
    policy.think(config.rollout.thinking)
    return policy


def _begin(
    config: TrainConfig,
    run: RunFolder,
    ranks: Distributed,
    listener: Listener,
    base: str,
    start: Path | None,
) -> None:
    """Write the settings and the adapter that PPO starts from."""
    if start is not None:
        leave_shape(config.adapter, start)
        check_share(read_config(start).is_prompt_learning, config.ppo.layers)
        listener.say(f"no warm start: {config.policy} is what PPO goes on from")
    policy = Policy.create(base, config.adapter, start, config.seed, listener.say)
    policy.think(config.rollout.thinking)
    Context(policy.template, config.rollout.max_new_tokens).check_room(config.rollout.max_tokens)
    resolved = {
        "dtype": str(policy.dtype).removeprefix("torch."),
        "device": str(policy.device),
        "threads": torch.get_num_threads(),
        "processes": ranks.count,
        "base": asdict(policy.base),
    }
    run.write_versions()
    run.write_config(config, resolved)
    ours = config.mixture.ours if config.warm_start.demonstrations else None
    if start is None and ours is not None:
        listener.phase("playing demonstrations")
        conversations = demonstrate(ours, config.warm_start.demonstrations, config.seed)
        with ranks.alone():
            warm(policy, conversations, config.warm_start, config.seed, run.warm_start, listener)
    else:
        policy.save(run.warm_start)


def warm(
    policy: Policy,
    conversations: Sequence[Conversation],
    config: WarmStartConfig,
    seed: int,
    out: Path,
    listener: Listener,
    in_random_order: bool = True,
) -> list[float]:
    """Warm-start a policy on conversations; record and give how the validation loss fell.

    Those of simulators come in random order; others may not.
    """
    listener.phase(f"warm start: {len(conversations)} conversations")
    show_share = listener.share("warm start")

    def report(row: object) -> None:
        assert isinstance(row, dict)
        if "loss" in row:
            show_share(row["done"], f"loss {row['loss']:.3f}")
        if "eval_loss" in row:
            listener.say(f"warm start: validation loss {row['eval_loss']:.4f} nats a token")

    losses = warm_start(
        policy, conversations, config, seed, out, in_random_order, report, listener.warn
    )
    files.write_json(out / "validation_losses.json", losses)
    return losses


def resumed(config: TrainConfig, run: RunFolder) -> TrainConfig:
    """Check that a run can go on with these settings.

    Returns:
        The settings, with no fewer iterations than the run has behind it.

    Raises:
        UserError: settings other than the number of iterations differ from the run's, or the
            reward monitor stopped it.
    """
    if (stopped := run.stopped) is not None:
        raise UserError(
            f"expected a run that can go on; --watch.stop ended {run.folder} at the alarm of "
            f"iteration {stopped}; train on from its best adapter in another run: rlchat train "
            f"--policy {run.folder} --run NEW"
        )
    free = {"iterations", "resume", "run", "evaluation", "track"}
    wanted = {k: v for k, v in to_json(asdict(config)).items() if k not in free}
    wanted["rollout"] = without_patience(wanted["rollout"])
    recorded = run.read_config()
    for name, old, new in differing(recorded, wanted, usual=_usual(recorded)):
        raise UserError(
            f"expected the settings of the run in {run.folder}; --{name} was {old!r} and is "
            f"{new!r} now; give the same or start another run"
        )
    return replace(config, iterations=max(config.iterations, run.iterations))


def without_patience(rollout: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of rollouts but for what is done about environments that fail: no number's cause."""
    return {k: v for k, v in rollout.items() if k not in ("timeout", "max_failed", "isolate")}


def _usual(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of all options: what a run had of those that are younger than it."""
    usual: dict[str, Any] = to_json(asdict(TrainConfig()))
    if "span" in recorded.get("reward", {}):  # as granularity was called
        del usual["reward"]["granularity"]
    return usual


def differing(
    recorded: Mapping[str, Any],
    wanted: Mapping[str, Any],
    of: str = "",
    usual: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, Any, Any]]:
    """Settings that are not as recorded: their names as on the command line, old and new.

    Args:
        recorded: settings as they were.
        wanted: settings as they are now.
        of: group that they belong to, with a point.
        usual: what options were that are not recorded, because they came later; those that are in
            neither are not compared.
    """
    known = {**(usual or {}), **recorded}
    for key, new in wanted.items():
        if key not in known:
            continue
        old, name = known[key], of + key.replace("_", "-")
        if isinstance(new, dict) and isinstance(old, dict):
            yield from differing(old, new, f"{name}.", (usual or {}).get(key))
        elif old != new:
            yield name, old, new


def _refuse_to_overwrite(run: RunFolder) -> None:
    if run.checkpoint.is_dir() or run.warm_start.is_dir():
        raise UserError(
            f"expected a new run folder; {run.folder} holds a run; go on with --resume, name "
            "another with --run, or delete it"
        )
    run.folder.mkdir(parents=True, exist_ok=True)
    if not os.access(run.folder, os.W_OK):
        raise UserError(f"expected a run folder that can be written; {run.folder} cannot")
