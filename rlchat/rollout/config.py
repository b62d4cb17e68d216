"""Settings of episodes: budgets and engine; and of branching rollouts."""

from __future__ import annotations

from dataclasses import dataclass

from rlchat.errors import UserError
from rlchat.models.templates.thoughts import check_thinking
from rlchat.settings import EngineName, expect


@dataclass(frozen=True)
class RolloutConfig:
    """Settings of episodes: budgets, the engine, and how many are played at a time."""

    rows: int = 64
    """Number of conversations that are played at the same time, as rows of one batch."""
    max_new_tokens: int = 48
    """Most tokens of one reply; a reply is cut off there."""
    max_tokens: int = 768
    """Most tokens of one whole conversation; an episode that would be longer is truncated."""
    thinking: str = ""
    """Whether the agent thinks before it replies, if its chat template knows thoughts: off; on,
    within max_new_tokens; or a number of tokens that a thought may have, after which it is ended
    and max_new_tokens may follow. Thoughts are trained like replies; neither users nor scores see
    them. If empty, as the agent was trained, else off."""
    cut_off_penalty: float = 0.2
    """Amount subtracted from the score of a turn whose reply was cut off."""
    workers: int = 0
    """Number of threads in which slow users, such as language models on a server, answer at the
    same time; with 0 they answer one after the other, which keeps a run repeatable to the bit."""
    timeout: float = 120.0
    """Most seconds that an environment which is not one of rlchat's may take to be made, to begin
    an episode or to answer a message; one that takes longer has failed. With 0 there is no
    limit."""
    max_failed: float = 0.1
    """Largest share of an iteration's episodes in training that may fail in the environment, when
    played a second time too, and be left out of the update; a larger one ends the run, which can
    be resumed."""
    isolate: bool = False
    """Give each environment that is not one of rlchat's a process of its own, which is killed when
    it takes longer than timeout: for those that crash, hold Python's lock, leak or need the main
    thread. It has to be named module:Id, as each process imports it anew."""
    engine: EngineName = "own"
    """What generates replies: own (this package's decoder) or paged (continuous batching of
    transformers, which is made for GPUs)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        for name in ("rows", "max_new_tokens"):
            expect(self, name, getattr(self, name) >= 1, "of at least 1")
        for name in ("cut_off_penalty", "workers", "timeout"):
            expect(self, name, getattr(self, name) >= 0, "of at least 0")
        check_thinking(self.thinking)
        expect(self, "max_failed", 0 <= self.max_failed <= 1, "from 0 to 1")
        if self.max_tokens < 2 * self.max_new_tokens:
            raise UserError(
                f"expected max_tokens of at least two turns ({2 * self.max_new_tokens}); got "
                f"{self.max_tokens}"
            )


@dataclass(frozen=True)
class BranchConfig:
    """Settings of comparisons of replies by what becomes of them."""

    dialogues: int = 2000
    """Number of simulated conversations; replies are compared at one point of each."""
    replies: int = 4
    """Number of replies sampled at that point of a conversation; all that differ are compared with
    one another."""
    continuations: int = 8
    """How many times the conversation is played to its end after each reply."""
    noise: float = 0.25
    """Uncertainty of a comparison, in score units: a difference as large as this counts for about
    two thirds."""
    whole: bool = False
    """Compare whole conversations with the same user by their scores, instead of single replies;
    the option replies then says how many conversations with each user."""

    def __post_init__(self) -> None:
        """Refuse settings out of range."""
        for name, least in (("dialogues", 1), ("replies", 2), ("continuations", 2)):
            if getattr(self, name) < least:
                raise UserError(f"expected {name} of at least {least}; got {getattr(self, name)}")
        if not self.noise > 0:
            raise UserError(f"expected noise above 0; got {self.noise}")
