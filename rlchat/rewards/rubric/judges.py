"""Judges: language models that answer a rubric's questions, on this machine or behind a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rlchat.inference.load_agent import ENDPOINT
from rlchat.inference.openai_client import find_endpoint
from rlchat.models.fetching.catalog import Say
from rlchat.rewards.rubric.config import JudgeConfig
from rlchat.rewards.rubric.endpoint_judge import EndpointJudge
from rlchat.rewards.rubric.prompt import Shortened
from rlchat.rewards.rubric.questions import Question
from rlchat_envs import Conversation

Answers = Mapping[str, float | None]
"""Answers by the question's name: a number, or None if a judge's words could not be read. A
question is missing if the judge could not be asked."""


@dataclass(frozen=True)
class Asked:
    """A conversation, and the questions that are asked about it."""

    conversation: Conversation
    questions: Sequence[Question]


class Judge(Protocol):
    """Answers questions about conversations.

    Attributes:
        identity: Its name with all that its answers depend on; answers are kept under it.
        shortened: Counts conversations of which it could not read all.
    """

    identity: str
    shortened: Shortened

    def answer(self, asked: Sequence[Asked]) -> Iterator[Answers]:
        """Answer, for one conversation after the other, in their order.

        Raises:
            RunError: the judge failed too often in a row.
        """
        ...


def load_judge(name: str, config: JudgeConfig, say: Say = lambda line: None) -> Judge:
    """Load or find a judge.

    Args:
        name: a name of `rlchat models list`, a folder (of a model, a run or an adapter), a Hugging
            Face id, or ``openai:MODEL@URL``.
        config: how it reads, and where it computes.
        say: told what takes long.

    Raises:
        UserError: there is none of that name, or it cannot answer.
    """
    if name.startswith(ENDPOINT):
        return EndpointJudge(name, find_endpoint(name.removeprefix(ENDPOINT)), config)
    # Here, so that torch is loaded for models alone.
    from rlchat.rewards.rubric.local_judge import LocalJudge

    return LocalJudge.load(name, config, say)


def try_judge(name: str, config: JudgeConfig) -> None:
    """Refuse a judge that is not there, before hours of work depend on it.

    An endpoint is asked once; of a model on this machine only the place is looked for.

    Raises:
        UserError: there is none.
    """
    if name.startswith(ENDPOINT):
        EndpointJudge(name, find_endpoint(name.removeprefix(ENDPOINT)), config).probe()
        return
    from rlchat.models.adapter_io import adapter_folder
    from rlchat.models.fetching.catalog import resolve

    if adapter_folder(name) is None:
        resolve(name)
