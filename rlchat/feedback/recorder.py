"""What a person thinks of the replies of one conversation, and how that is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rlchat.feedback.store import Messages, Store, StoredReply

if TYPE_CHECKING:  # which brings torch
    from rlchat.inference.agents import Reply
    from rlchat_envs import Conversation


@dataclass(frozen=True)
class RatingContext:
    """Who talks to whom, and where ratings go; see `store.Session`."""

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
    while something is written: persons rate seldom, and whoever wants to forget need not wait.
    """

    sitting: RatingContext
    replies: list[StoredReply] = field(default_factory=list)
    session: str = ""  # its id, once it is kept
    starred: bool = False
    _numbers: list[int] = field(default_factory=list)  # of the replies that are kept

    def spoke(self, conversation: Conversation, said: Reply) -> None:
        """Note a reply to a conversation; it may be rated from now on."""
        context = [{"role": m.role, "content": m.content} for m in conversation]
        self.replies.append(_reply(len(self.replies), context, said))

    def thumb(self, value: Literal[1, -1]) -> None:
        """Keep that the last reply is good or bad.

        Raises:
            UserError: the file cannot be written; nothing is kept. So for the others.
        """
        with self._kept() as (store, reply):
            store.thumb(reply, value)

    def pair(self, said: Reply, value: Literal[1, 0, -1]) -> None:
        """Keep how the last reply compares to another in its place, which is kept as well.

        If the other is the better one, it becomes the last reply.
        """
        other = _reply(self.replies[-1].turn, self.replies[-1].context, said)
        with self._kept() as (store, reply):
            store.pair(reply, other.text, value)
            number = store.add_reply(self.session, other)
        if value < 0:
            self.replies[-1], self._numbers[-1] = other, number

    def edit(self, better: str) -> None:
        """Keep what would have been better than the last reply."""
        with self._kept() as (store, reply):
            store.edit(reply, better)

    def comment(self, comment: str) -> None:
        """Keep a remark on the last reply."""
        with self._kept() as (store, reply):
            store.comment(reply, comment)

    def stars(self, value: int) -> None:
        """Keep 1 to 5 stars for the conversation so far."""
        with self._kept() as (store, reply):
            store.stars(reply, value)
        self.starred = True

    @contextmanager
    def _kept(self) -> Iterator[tuple[Store, int]]:
        """Open the store, with all replies in it, and give the last one's number.

        Replies and rating are on the disk when the block is left, or neither is.
        """
        before = self.session, self._numbers
        sitting = self.sitting
        try:
            with Store.open(sitting.path, sitting.mask) as store, store.writing():
                if not store.has_session(self.session):
                    self.session = store.begin_session(
                        sitting.person,
                        sitting.agent,
                        sitting.version,
                        sitting.env,
                        sitting.temperature,
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
