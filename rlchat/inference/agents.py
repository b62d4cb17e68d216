"""Who can be evaluated and talked to: trained runs, plain models, and scripted agents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from rlchat.errors import UserError
from rlchat.models.adapter_io import adapter_hash, base_spec
from rlchat.models.adapters import POLICY, AdapterConfig, leave_shape
from rlchat.models.catalog import catalog
from rlchat.models.chat_template import Rendering
from rlchat.models.generation_model import Speaker
from rlchat.models.policy import Policy
from rlchat.models.starters import STARTERS
from rlchat.rollout.collect import RolloutConfig, Trajectory, collect
from rlchat.rollout.environment import Purpose, World, Worlds, episode_seeds
from rlchat.rollout.llm_users import EndpointAgent, find_endpoint
from rlchat_envs import DialogueEnv, ScriptedAgent
from rlchat_envs.retrieval_agent import RetrievalAgent

SCRIPTED = ("expert", "demonstrator", "random", "retrieval", "knowledge-graph")

ENDPOINT = "openai:"  # how names of agents begin that an OpenAI-compatible server speaks for

OnEpisode = Callable[[Trajectory], None]


@dataclass(frozen=True)
class ModelAgent:
    """A language model that speaks as it is."""

    speaker: Speaker
    rendering: Rendering


@dataclass(frozen=True)
class NamedAgent:
    """A scripted agent of the scenario, or one behind an endpoint."""

    name: str


Agent = ModelAgent | NamedAgent


def load_agent(
    name: str,
    base: str = "smollm2-135m",
    adapter: AdapterConfig | None = None,
    say: catalog.Say = lambda line: None,
) -> Agent:
    """Find an agent: a run or adapter folder, a starter, ``base``, or a scripted one.

    Args:
        name: as on the command line.
        base: what ``base`` is.
        adapter: dtype and device.
        say: told what takes long.

    Raises:
        UserError: nobody of that name.
    """
    config = adapter or AdapterConfig()
    if name in SCRIPTED:
        return NamedAgent(name)
    if name.startswith(ENDPOINT):
        find_endpoint(name.removeprefix(ENDPOINT))
        return NamedAgent(name)
    if name == "base":
        policy = Policy.create(base, config, say=say)
        return ModelAgent(policy.speaker(None), policy.rendering)
    folder = adapter_folder(name)
    if folder is None:
        known = [*STARTERS, "base", *SCRIPTED]
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(
            f"expected an agent: a run folder, {', '.join(known)}, {ENDPOINT}MODEL@URL; "
            f"got {name!r}{hint}"
        )
    leave_shape(config, folder)
    policy = Policy.create(base_spec(folder), config, adapter=folder, say=say)
    return ModelAgent(policy.speaker(POLICY), policy.rendering)


def adapter_folder(name: str | Path) -> Path | None:
    """The adapter in a run folder, or the folder itself if it is one, or a starter; None otherwise.

    Raises:
        UserError: a run folder without an adapter.
    """
    if str(name) in STARTERS:
        return STARTERS[str(name)].folder
    folder = Path(name)
    if (folder / "adapter_config.json").is_file():
        return folder
    if (folder / "adapter").is_dir():
        return folder / "adapter"
    if (folder / "config.json").is_file() and (folder / "versions.json").is_file():
        raise UserError(
            f"expected a run that has finished an iteration; {folder} holds no adapter yet; go on "
            "with rlchat train --resume"
        )
    return None


def version(name: str, base: str) -> str:
    """What tells one policy from another of the same name: see `load_agent`.

    Returns:
        The hash of an adapter's weights; for ``base`` what it is, and for others their name.
    """
    folder = None if name in SCRIPTED or name.startswith(ENDPOINT) else adapter_folder(name)
    if folder is not None:
        return adapter_hash(folder)
    return base if name == "base" else name


def talk(
    agent: Agent,
    worlds: Worlds,
    indices: Sequence[int],
    seed: int,
    temperature: float,
    rollout: RolloutConfig,
    on_episode: OnEpisode | None = None,
) -> list[Trajectory]:
    """Let an agent play episodes; episode i is the same for every agent.

    Returns:
        Their trajectories, in order; a scripted agent's have no tokens.
    """
    if isinstance(agent, ModelAgent):
        keys = [(i, (seed, Purpose.EVALUATE, i), (seed, Purpose.ANSWER, i)) for i in indices]
        return collect(
            agent.speaker, agent.rendering, worlds, keys, rollout, temperature, on_episode
        )
    played = []
    for i in indices:
        played.append(_play_scripted(agent.name, worlds[0], i, seed, temperature))
        if on_episode is not None:
            on_episode(played[-1])
    return played


def scripted(name: str, world: World, seed: int, temperature: float = 0.0) -> ScriptedAgent:
    """Make a scripted agent of the world's scenario, or one behind an endpoint.

    Raises:
        UserError: the scenario has none of that name.
    """
    env = world.env.unwrapped
    if name.startswith(ENDPOINT):
        return EndpointAgent(find_endpoint(name.removeprefix(ENDPOINT)), seed, temperature)
    scenario = env.scenario if isinstance(env, DialogueEnv) else None
    agents = {} if scenario is None else scenario.agents
    if scenario is not None and name == "retrieval" and "demonstrator" in agents:
        return RetrievalAgent(scenario, seed % 2**31)
    if name not in agents:
        raise UserError(
            f"expected an environment with an agent called {name}; {world.config.env} has none; "
            "name a model or a run folder, or an environment of rlchat envs"
        )
    return agents[name](seed % 2**31)


def _play_scripted(
    name: str, world: World, index: int, seed: int, temperature: float
) -> Trajectory:
    world_seed, _ = episode_seeds(seed, Purpose.EVALUATE, index)
    agent = scripted(name, world, world_seed, temperature)
    trajectory = Trajectory(index, world_seed, [])
    conversation = world.reset(world_seed)
    while not (trajectory.terminated or trajectory.truncated):
        outcome = world.step(agent.reply(conversation, world.hidden))
        conversation = world.conversation
        trajectory = replace(
            trajectory,
            parts=[*trajectory.parts, outcome.parts],
            costs=[*trajectory.costs, outcome.costs],
            knowledge=outcome.knowledge,
            conversation=conversation,
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            success=outcome.success,
        )
    return trajectory
