"""A live conversation with an agent: replies as they come, look-ups, and scores."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from rlchat.errors import UserError
from rlchat.inference.agents import Agent, ContextFull, ConversationSettings, OnText, Reply
from rlchat.inference.load_agent import load_agent
from rlchat.inference.scripted_agent import Replies
from rlchat.rollout.config import RolloutConfig
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.seeding import Purpose, episode_seeds
from rlchat.serving.scoring import ScoredConversation
from rlchat_envs.knowledge import Lookup

MOST_CALLS = 8  # messages in a row that call functions; then it is the user's turn


class ChatSession(ScoredConversation):
    """One live conversation of a person, or the simulated user, with an agent.

    ``for piece in session.reply("Where is my parcel?")`` gives the agent's reply as it comes; then
    ``session.last_reply`` holds the whole of it, ``session.parts`` what each turn has earned, and
    ``session.solved`` whether the case is closed, and how.

    Example:
        >>> import rlchat
        >>> session = rlchat.ChatSession(rlchat.load_agent("expert"), rlchat.make_env())
        >>> "".join(session.reply("Where is my parcel?")) == session.conversation[-1].content
        True
    """

    def __init__(
        self,
        agent: Agent | str | Path | Replies,
        env: TextEnv | None = None,
        *,
        seed: int = 0,
        number: int = 0,
        temperature: float = 0.0,
        rollout: RolloutConfig | None = None,
        lookups: Sequence[Lookup] = (),
        stated_style: Sequence[str] = (),
    ):
        """Begin a conversation.

        Args:
            agent: replies; what `load_agent` takes is loaded.
            env: gives goal and simulated user, looks things up, and judges; it serves one session
                at a time. Without one there is only talk.
            seed: decides goal, user and sampling, with the number.
            number: of the conversation, among those of one seed.
            temperature: of sampling; 0 is greedy.
            rollout: budgets, and the penalty for a reply that is cut off.
            lookups: what is looked things up in where there is no environment.
            stated_style: style that a system message states where there is no environment.

        Raises:
            UserError: an environment in which a person cannot be the user.
        """
        rollout = rollout or RolloutConfig()
        env_seed, noise = episode_seeds(seed, Purpose.CHAT, number)
        if env is None:
            config = EnvConfig(stated_style=tuple(stated_style))
            opening = config.styled((), env_seed, "dev")
        else:
            config, opening = env.config, env.reset(env_seed)
            if env.dialogue is None:
                raise UserError(
                    "expected an environment in which a person can be the user; "
                    f"{env.config.env} has no such part; leave it out"
                )
            lookups = env.lookups
        dialogue = None if env is None else env.dialogue
        super().__init__(dialogue, lookups, opening, config.style_of(env_seed))
        settings = ConversationSettings(
            None if env is None else env.scenario,
            "" if env is None else env.config.env,
            temperature,
            rollout.max_tokens,
            rollout.max_new_tokens,
            rollout.thinking,
            noise,
        )
        self.agent_conversation = load_agent(agent).start(env_seed, settings)
        self.last_reply: Reply | None = None
        self._cut_off_penalty = rollout.cut_off_penalty

    def reply(self, text: str) -> Iterator[str]:
        """Say something as the user, and give the agent's reply in pieces as they come.

        Where it calls functions, what they give becomes part of the conversation, and it speaks
        again, on a line of its own.

        Whoever stops taking pieces stops the reply. In either case it is part of the conversation
        then, scored, and left in ``last_reply``; the case is closed if the reply does that.

        Raises:
            ContextFull: the agent has no room for another turn. It is raised at the first piece
                where only this message takes the last of the room.
        """
        if self.unanswered:
            raise ContextFull
        self.person(text)
        return self._pieces()

    def answer(self, on_text: OnText = lambda piece: None) -> Reply:
        """Let the agent reply to the last message; it is scored, but does not close the case.

        Args:
            on_text: called with pieces of the reply as they come.

        Raises:
            ContextFull: the agent has no room for another turn.
        """
        reply = self.agent_conversation.reply(self.conversation, self.privileged, on_text)
        self._take(reply)
        return reply

    def penalty(self, reply: Reply) -> float:
        """The penalty for a reply that was cut off; 0 for any other."""
        return 0.0 if reply.finished else self._cut_off_penalty

    def _pieces(self) -> Iterator[str]:
        closed = yield from self._message()
        for _ in range(MOST_CALLS):
            if closed or not self.serve() or self.solved is not None:
                break
            yield "\n"
            closed = yield from self._message()
        self.decide()

    def _message(self) -> Generator[str, None, bool]:
        """One message of the agent's in pieces; tell whether whoever takes them has stopped."""
        stream, closed = self.agent_conversation.stream(self.conversation, self.privileged), False
        while True:
            try:
                piece = stream.throw(KeyboardInterrupt) if closed else next(stream)
            except StopIteration as end:
                self._take(end.value)
                return closed
            try:
                if not closed:
                    yield piece
            except GeneratorExit:
                closed = True

    def _take(self, reply: Reply) -> None:
        self.last_reply = reply
        self.agent(reply.text, self.penalty(reply))
