"""A judge behind an OpenAI-compatible server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

from rlchat.errors import RunError
from rlchat.inference.openai_client import Endpoint, EndpointError, NothingSaid
from rlchat.rewards.rubric.config import JudgeConfig
from rlchat.rewards.rubric.prompt import VERSION, Shortened, asked, fitted, quoted
from rlchat.rewards.rubric.questions import YES, Question
from rlchat_envs import Conversation, Message

if TYPE_CHECKING:
    from rlchat.rewards.rubric.judges import Answers, Asked

FAILURES = 8  # in a row after which a server is given up
_LETTERS = 4  # that count as a token, as nobody knows the server's tokenizer
_SHOWN = 200  # characters of an answer that could not be read, which the judge is shown again


class EndpointJudge:
    """A server's model, which answers in words.

    An answer has to be one of those that were asked for; another is asked for once more, and then
    counts as unreadable. A request that fails leaves its question out: it is asked again when there
    is a next time.
    """

    def __init__(self, name: str, endpoint: Endpoint, config: JudgeConfig):
        """Judge with the model behind ``endpoint``.

        Args:
            name: of the judge.
            endpoint: is asked.
            config: how much is read, and how many requests there may be at a time.
        """
        self.endpoint, self.config, self.shortened = endpoint, config, Shortened()
        self.identity = f"{name} ({config.max_tokens} tokens, prompt {VERSION})"
        self._failures = 0  # in a row
        self._lock = Lock()

    def answer(self, asked: Sequence[Asked]) -> Iterator[Answers]:
        """Answer, in the order of the conversations; see `Judge`.

        Raises:
            RunError: the server failed too often in a row.
            UserError: it knows no such model, or not the key.
        """
        pool = ThreadPoolExecutor(self.config.workers)
        found = [pool.submit(self._answers, one) for one in asked]
        try:
            for future in found:
                yield future.result()
        finally:  # whoever stops listening does not wait for what others are asked
            pool.shutdown(wait=False, cancel_futures=True)

    def probe(self) -> None:
        """Ask once, to see that somebody answers.

        Raises:
            UserError: nobody does, or the server refuses.
            RunError: the server fails.
        """
        try:
            self._asked((Message("user", "Is one and one two? Answer yes or no."),), seed=0)
        except NothingSaid:
            return

    def _answers(self, one: Asked) -> Answers:
        with self._lock:
            lines = fitted(
                quoted(one.conversation), self.config.max_tokens, _tokens, self.shortened
            )
        found: dict[str, float | None] = {}
        for question in one.questions:
            try:
                found[question.name] = self._answer(lines, question)
            except EndpointError as error:
                self._failed(error)
            else:
                self._failures = 0
        return found

    def _failed(self, error: EndpointError) -> None:
        """Count a failure.

        Raises:
            RunError: there were too many in a row.
        """
        with self._lock:
            self._failures += 1
            failures = self._failures
        if failures >= FAILURES:
            raise RunError(f"the judge failed {failures} times in a row: {error}") from error

    def _answer(self, lines: Sequence[str], question: Question) -> float | None:
        """Ask, and ask once more if the answer cannot be read; None if it still cannot."""
        prompt = asked(lines, question)
        said = self._asked_or_silent(prompt, seed=0)
        answer = read_answer(said, question)
        if answer is None:
            if said:
                shown = Message("assistant", said[:_SHOWN])
                prompt = (*prompt, shown, Message("user", question.instruction))
            answer = read_answer(self._asked_or_silent(prompt, seed=1), question)
        return answer

    def _asked_or_silent(self, prompt: Conversation, seed: int) -> str:
        try:
            return self._asked(prompt, seed)
        except NothingSaid:
            return ""

    def _asked(self, prompt: Conversation, seed: int) -> str:
        return self.endpoint.ask(prompt, seed, 0.0, self.config.max_new_tokens)


def read_answer(said: str, question: Question) -> float | None:
    """The number that an answer stands for; None if it is no answer.

    The answer may stand in quotation marks or bold, in any case and with a full stop; beside
    another word it is none.
    """
    found = re.fullmatch(r"[\W_]*(\w+?)[\W_]*", said)
    word = found[1].lower() if found else ""
    if word not in question.words:
        return None
    return float(word) if question.top else float(word == YES)


def _tokens(line: str) -> int:
    return len(line) // _LETTERS + 1
