"""Episodes of any agent, one after the other or batched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rlchat.errors import UserError
from rlchat.inference.agents import ENDPOINT, Agent, ModelAgent
from rlchat.inference.endpoint_agent import EndpointAgent
from rlchat.inference.openai_client import find_endpoint
from rlchat.rollout.collect import collect
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvPool, TextEnv
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.rollout.trajectory import Trajectory
from rlchat_envs import DialogueEnv, ScriptedAgent
from rlchat_envs.retrieval_agent import RetrievalAgent

OnEpisode = Callable[[Trajectory], None]


def talk(
    agent: Agent,
    worlds: EnvPool,
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
            agent.generation, agent.template, worlds, keys, rollout, temperature, on_episode
        )
    played = []
    for i in indices:
        played.append(_play_scripted(agent.name, worlds[0], i, seed, temperature))
        if on_episode is not None:
            on_episode(played[-1])
    return played


def scripted(name: str, world: TextEnv, seed: int, temperature: float = 0.0) -> ScriptedAgent:
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
    name: str, world: TextEnv, index: int, seed: int, temperature: float
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
