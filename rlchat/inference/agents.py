"""Who can be evaluated and talked to: trained runs, plain models, and scripted agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlchat.errors import UserError
from rlchat.inference.decoder import Decoder
from rlchat.inference.openai_client import find_endpoint
from rlchat.inference.streaming import TextStream
from rlchat.models import catalog
from rlchat.models.adapter_io import adapter_hash, base_spec
from rlchat.models.adapters import POLICY, AdapterConfig, leave_shape
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.generation_model import GenerationModel
from rlchat.models.policy import Policy
from rlchat.models.starters import STARTERS
from rlchat.rollout.config import RolloutConfig
from rlchat_envs import Conversation, ScriptedAgent

SCRIPTED = ("expert", "demonstrator", "random", "retrieval", "knowledge-graph")

ENDPOINT = "openai:"  # how names of agents begin that an OpenAI-compatible server speaks for


@dataclass(frozen=True)
class ModelAgent:
    """A language model that speaks as it is."""

    generation: GenerationModel
    template: ChatTemplate


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
        return ModelAgent(policy.generation_model(None), policy.template)
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
    return ModelAgent(policy.generation_model(POLICY), policy.template)


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


OnText = Callable[[str], None]


class ContextFull(Exception):
    """The conversation has no room for another turn."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One message of an agent; ``finished`` is False if it was cut off or stopped.

    What a model sampled comes with its token ids and their logprobs, in nats under the distribution
    at ``temperature`` (at 1 where it is 0, which samples nothing).
    """

    text: str
    finished: bool = True
    stopped: bool = False
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    temperature: float | None = None


class Voice(Protocol):
    """Speaks for the agent in one conversation."""

    def say(self, conversation: Conversation, hidden: Mapping[str, Any], on_text: OnText) -> Reply:
        """Say the next message; ``on_text`` gets its pieces as they come."""
        ...


@dataclass
class ScriptedVoice:
    """A scripted agent; it may look at what is hidden."""

    agent: ScriptedAgent

    def say(self, conversation: Conversation, hidden: Mapping[str, Any], on_text: OnText) -> Reply:
        """Say it in one piece."""
        text = self.agent.reply(conversation, hidden)
        on_text(text)
        return Reply(text)


class ModelVoice:
    """A language model whose key-value cache lives as long as the conversation.

    ``_ids`` are all tokens of the conversation. The cache may lag behind them, by the last
    sampled token or by what an interruption cost; what it lacks is sent before the next turn.
    A second row of the cache is for another reply: it begins with a copy of the first.
    """

    def __init__(
        self,
        agent: ModelAgent,
        rollout: RolloutConfig,
        temperature: float,
        noise: np.random.Generator,
    ):
        """Make an empty conversation; ``rollout`` gives its budgets in tokens."""
        most = getattr(agent.generation.model.config, "max_position_embeddings", None)
        self._room = min(rollout.max_tokens, most or rollout.max_tokens)
        self._turn = rollout.max_new_tokens
        self._template, self._noise = agent.template, noise
        self._temperature = temperature
        self._decoder = Decoder(agent.generation, 2, self._room, agent.template.end_of_turn)
        self._row = 0  # of the conversation; the other is for another reply
        self._ids: list[int] = []
        self._known = 0  # messages of the conversation that are in _ids
        self._heard = 0  # tokens before the last reply
        self._finished = True

    def say(self, conversation: Conversation, hidden: Mapping[str, Any], on_text: OnText) -> Reply:
        """Sample the next message; Ctrl-C ends it where it is.

        Raises:
            ContextFull: there is no room for another turn; the conversation is as it was.
        """
        new = conversation[self._known :]
        if self._ids:
            prompt = self._template.after(new, cut=not self._finished)
        else:
            prompt = self._template.opening(new)[-(self._room - self._turn) :]
        if len(self._ids) + len(prompt) + self._turn > self._room:
            raise ContextFull
        self._decoder.forget(1 - self._row)
        self._ids += prompt
        self._known, self._heard = len(conversation) + 1, len(self._ids)
        said = self._speak(self._row, self._noise, self._temperature, on_text)
        self._ids += said.ids
        self._finished = said.finished
        return said

    def another(self) -> Reply:
        """Sample another reply at temperature 1 in the place of the last one, which stays for now.

        It does not touch the noise of what is said later. Ctrl-C ends it where it is.
        """
        assert self._heard
        self._decoder.forget(1 - self._row)
        return self._speak(1 - self._row, self._noise.spawn(1)[0], 1.0, lambda _: None)

    def take(self, other: Reply) -> None:
        """Go on from what `another` has just said, as it was sampled."""
        self._row = 1 - self._row
        self._ids[self._heard :] = other.ids
        self._finished = other.finished

    def _speak(
        self, row: int, noise: np.random.Generator, temperature: float, on_text: OnText
    ) -> Reply:
        """Say something after the tokens that come before the last reply."""
        ids: list[int] = []
        logprobs: list[float] = []
        stream, end = TextStream(self._template, on_text), self._template.end_of_turn

        def hear(_: int, token: int, logprob: float) -> None:
            ids.append(token)
            logprobs.append(logprob)
            stream.show(ids, last=token == end)

        stopped = False
        self._decoder.temperature = temperature
        try:
            lacking = self._ids[self._decoder.length(row) : self._heard]
            self._decoder.generate({row: lacking}, {row: noise.random}, self._turn, hear)
        except KeyboardInterrupt:
            stopped = True
        finished = ids[-1:] == [end]
        text = stream.show(ids, last=finished)
        return Reply(
            text, finished, stopped and not finished, tuple(ids), tuple(logprobs), temperature
        )
