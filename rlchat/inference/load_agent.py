"""Agents by name: runs, adapters, base models, scripts and servers."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rlchat.errors import UserError
from rlchat.inference.agents import Agent
from rlchat.inference.endpoint_agent import EndpointAgent
from rlchat.inference.openai_client import find_endpoint
from rlchat.inference.scripted_agent import SCRIPTED, ObjectAgent, Replies, ScenarioAgent
from rlchat.models.config import AdapterConfig
from rlchat.models.fetching.catalog import Say
from rlchat.models.starters import STARTERS

if TYPE_CHECKING:  # which bring torch
    from rlchat.inference.model_agent import ModelAgent
    from rlchat.models.loading import LoadBase

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


def load_model_agents(
    names: Sequence[str],
    base: str,
    adapter: AdapterConfig,
    say: Say = lambda line: None,
) -> list[ModelAgent]:
    """Load several language models, whose bases are loaded once: they share what they can.

    An adapter is merged into copies of the layers that it changes; the others are one in memory.

    Args:
        names: of run or adapter folders, starters, or ``base``.
        base: the model that ``base`` stands for.
        adapter: precision and device.
        say: told what takes long.

    Raises:
        UserError: one of them is none, or no language model that is here.
    """
    for name in names:
        if name in SCRIPTED or name.startswith(ENDPOINT):
            raise UserError(
                f"expected agents that are language models here: run or adapter folders, "
                f"{', '.join(STARTERS)} or base; got {name!r}; leave it out"
            )
    from rlchat.models.loading import SharedBases  # here, as it takes long

    shared, loaded = SharedBases(), []
    for name in names:
        say(f"loading {name}")
        loaded.append(_model_agent(name, base, adapter, say, shared.load))
    return loaded


def _model_agent(
    name: str, base: str, config: AdapterConfig, say: Say, load: LoadBase | None = None
) -> ModelAgent:
    # Here, so that torch is loaded for models alone.
    from rlchat.inference.model_agent import ModelAgent
    from rlchat.models.adapter_io import adapter_folder, adapter_hash, base_spec
    from rlchat.models.adapters import leave_shape
    from rlchat.models.loading import load_base
    from rlchat.models.policy import Policy

    load = load or load_base
    if name == "base":
        policy = Policy.create(base, config, say=say, load=load)
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
    policy = Policy.create(base_spec(folder), config, adapter=folder, say=say, load=load)
    return ModelAgent.of(policy, name=name, version=adapter_hash(folder))
