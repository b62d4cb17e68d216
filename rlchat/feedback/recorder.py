"""Ratings of the replies of one conversation, and how they are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rlchat.feedback.store import Kind, Messages, Store, StoredReply
from rlchat_envs.core.messages import to_row

if TYPE_CHECKING:  # which brings torch
    from rlchat.inference.agents import Reply
    from rlchat_envs import Conversation


@dataclass(frozen=True)
class RatingContext:
    """Settings of a recorder: who talks to whom, and where ratings go; see `store.Session`."""

    person: str
    agent: str
    version: str
    env: str
    temperature: float
    path: Path
    mask: Callable[[str], str]


@dataclass
class RatingRecorder:
    """The replies of one conversation; none is kept before the first rating.

    A rating takes with it every reply so far, as stars are for all of them. The file is open only
    while something is written: people rate seldom, and `rlchat feedback forget` need not wait.
    """

    about: RatingContext
    replies: list[StoredReply] = field(default_factory=list)
    session: str = ""  # its id, once it is kept
    starred: bool = False
    _numbers: list[int] = field(default_factory=list)  # of the replies that are kept

    def spoke(self, conversation: Conversation, said: Reply) -> None:
        """Note a reply to a conversation; it may be rated from now on."""
        row = to_row(conversation)
        context: list[dict[str, str]] = row["messages"]
        if "tools" in row:  # beside the text of the message that declares them
            context[0]["tools"] = json.dumps(row["tools"], ensure_ascii=False)
        self.replies.append(_reply(len(self.replies), context, said))

    def rate(self, kind: Kind, value: float = 0.0, text: str = "") -> None:
        """Keep a rating of the last reply; stars are for the conversation so far.

        Args:
            kind: what sort of rating it is.
            value: see `store.Rating`.
            text: the better reply of an edit, or a comment.

        Raises:
            UserError: the file cannot be written; nothing is kept.
        """
        with self._kept() as (store, reply):
            store.rate(reply, kind, value, text)
        self.starred = self.starred or kind == "stars"

    def compare(self, other: Reply, value: Literal[1, 0, -1]) -> None:
        """Keep how the last reply compares to another in its place, which is kept as well.

        If the other is the better one, it becomes the last reply.

        Raises:
            UserError: the file cannot be written; nothing is kept.
        """
        stored = _reply(self.replies[-1].turn, self.replies[-1].context, other)
        with self._kept() as (store, reply):
            store.rate(reply, "pair", value, stored.text)
            number = store.add_reply(self.session, stored)
        if value < 0:
            self.replies[-1], self._numbers[-1] = stored, number

    @contextmanager
    def _kept(self) -> Iterator[tuple[Store, int]]:
        """Open the store, with all replies in it, and give the last one's number.

        Replies and rating are on the disk when the block is left, or neither is.
        """
        before = self.session, self._numbers
        about = self.about
        try:
            with Store.open(about.path, about.mask) as store, store.writing():
                if not store.has_session(self.session):
                    self.session = store.begin_session(
                        about.person,
                        about.agent,
                        about.version,
                        about.env,
                        about.temperature,
                    )
                    self._numbers = []
                new = self.replies[len(self._numbers) :]
                numbers = [store.add_reply(self.session, reply) for reply in new]
                self._numbers = [*self._numbers, *numbers]
                yield store, self._numbers[-1]
        except BaseException:
            self.session, self._numbers = before
            raise


def _reply(turn: int, context: Messages, said: Reply) -> StoredReply:
    return StoredReply(turn, context, said.text, said.ids, said.logprobs, said.temperature)
