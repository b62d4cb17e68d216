"""Agents by name: runs, adapters, base models, scripts and servers."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import cast

from rlchat.errors import UserError
from rlchat.inference.agents import Agent
from rlchat.inference.endpoint_agent import EndpointAgent
from rlchat.inference.openai_client import find_endpoint
from rlchat.inference.scripted_agent import SCRIPTED, ObjectAgent, Replies, ScenarioAgent
from rlchat.models.config import AdapterConfig
from rlchat.models.fetching.catalog import Say
from rlchat.models.starters import STARTERS

ENDPOINT = "openai:"  # how names of agents begin that are behind an OpenAI-compatible server


def load_agent(
    agent: str | Path | Replies | Agent,
    base: str = "smollm2-135m",
    adapter: AdapterConfig | None = None,
    say: Say = lambda line: None,
) -> Agent:
    """Load or find the agent that a name, a folder or an object stands for.

    Args:
        agent: a run or adapter folder, a starter, ``base``, a scripted agent's name,
            ``openai:MODEL@URL``, any object with ``reply(conversation, privileged)``, or an agent,
            which is given back as it is.
        base: the model that ``base`` stands for.
        adapter: precision and device.
        say: told what takes long.

    Raises:
        UserError: there is none of that name.

    Example:
        >>> import rlchat
        >>> rlchat.load_agent("expert").name
        'expert'
    """
    config = adapter or AdapterConfig()
    if not isinstance(agent, str | Path):
        return cast(Agent, agent) if hasattr(agent, "start") else ObjectAgent(agent)
    name = str(agent)
    if name in SCRIPTED:
        return ScenarioAgent(name)
    if name.startswith(ENDPOINT):
        return EndpointAgent(name, find_endpoint(name.removeprefix(ENDPOINT)))
    return _model_agent(name, base, config, say)


def _model_agent(name: str, base: str, config: AdapterConfig, say: Say) -> Agent:
    # Here, so that torch is loaded for models alone.
    from rlchat.inference.model_agent import ModelAgent
    from rlchat.models.adapter_io import adapter_folder, adapter_hash, base_spec
    from rlchat.models.adapters import leave_shape
    from rlchat.models.policy import Policy

    if name == "base":
        policy = Policy.create(base, config, say=say)
        return ModelAgent.of(policy, None, name, base)
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
    return ModelAgent.of(policy, name=name, version=adapter_hash(folder))
