"""A judge on this machine: what a language model thinks the next word is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rlchat.errors import UserError
from rlchat.models.adapter_io import adapter_folder, adapter_hash, base_spec
from rlchat.models.attention import text_config
from rlchat.models.chat_template import ChatTemplate
from rlchat.models.config import AdapterConfig
from rlchat.models.exact.row_limit import row_limit
from rlchat.models.fetching.catalog import Say
from rlchat.models.policy import Policy
from rlchat.models.templates.thoughts import OFF
from rlchat.rewards.rubric.config import LEAST, JudgeConfig
from rlchat.rewards.rubric.prompt import VERSION, Shortened, asked, fitted, quoted
from rlchat.rewards.rubric.questions import YES, Question

if TYPE_CHECKING:
    from rlchat.rewards.rubric.judges import Answers, Asked

_UNCUT = 1 << 30  # tokens of a message: what is too long was left out before


class LocalJudge:
    """A language model that answers by its probabilities of the next token.

    The probability of yes is that of the tokens which are ``yes``, with a capital or without, and
    with a space before it or without, divided by that of these and of ``no``'s. A scale gives the
    mean of its numbers under their probabilities. Nothing is sampled. All questions about a
    conversation are one forward, which reads the conversation once; answers to one conversation do
    not depend on what else is judged.
    """

    def __init__(self, name: str, policy: Policy, version: str, config: JudgeConfig, bare: bool):
        """Judge with a model.

        Args:
            name: of the judge.
            policy: has the model.
            version: of its weights.
            config: how much of a conversation is read.
            bare: whether it judges without the adapter.
        """
        self.name, self.policy, self.bare, self.shortened = name, policy, bare, Shortened()
        self._most, self._reach = config.max_tokens, positions(policy)
        precision = str(policy.dtype).removeprefix("torch.")
        self.identity = (
            f"{name} ({version[:12]}, {precision}, {config.max_tokens} tokens, prompt {VERSION})"
        )
        self._starts: dict[tuple[str, ...], list[list[int]]] = {}

    @classmethod
    def load(cls, name: str, config: JudgeConfig, say: Say = lambda line: None) -> LocalJudge:
        """Load a judge; see `rlchat.rewards.rubric.judges.load_judge`.

        Raises:
            UserError: there is no such model, or it has no words for yes and no.
        """
        adapter = AdapterConfig(
            rank=1, dtype=config.dtype, device=config.device, max_message_tokens=_UNCUT
        )
        folder = adapter_folder(name)
        base = name if folder is None else base_spec(folder)
        policy = Policy.create(base, adapter, folder, say=say)
        policy.think(OFF)  # its next word is the answer
        version = policy.base.weights_sha256 if folder is None else adapter_hash(folder)
        return cls(name, policy, version, config, bare=folder is None)

    def answer(self, asked: Sequence[Asked]) -> Iterator[Answers]:
        """Answer, in the order of the conversations; see `Judge`."""
        for one in asked:
            yield self._answers(one)

    @torch.no_grad()
    def _answers(self, one: Asked) -> Answers:
        template, questions = self.policy.template, one.questions
        if not questions:
            return {}
        spared = max(len(template.opening(asked((), question))) for question in questions)
        room = self._room(spared)
        lines = fitted(quoted(one.conversation), room, self._tokens, self.shortened)
        rows = [torch.tensor(template.opening(asked(lines, q))) for q in questions]
        with self.policy.using(None) if self.bare else nullcontext():
            packing = self.policy.packing(rows)
            numbers = torch.arange(len(rows), device=self.policy.device)
            ends = torch.tensor([len(row) - 1 for row in rows], device=self.policy.device)
            states, _ = self.policy.trunk_states(packing.ids, packing, packing.at(numbers, ends))
            logits = self.policy.head(states).float().cpu()
        return {q.name: self._read(q, own) for q, own in zip(questions, logits, strict=True)}

    def _read(self, question: Question, logits: Tensor) -> float:
        """An answer from the logits (V,) of the next token."""
        starts = self._answer_starts(question.words)
        sums = torch.stack([logits[ids].logsumexp(0) for ids in starts])
        shares: list[float] = sums.softmax(0).tolist()
        probabilities = dict(zip(question.words, shares, strict=True))
        if question.top:
            return round(sum(int(word) * p for word, p in probabilities.items()), 6)
        return round(probabilities[YES], 6)

    def _answer_starts(self, words: tuple[str, ...]) -> list[list[int]]:
        if words not in self._starts:
            self._starts[words] = answer_starts(self.policy.template, words, self.name)
        return self._starts[words]

    def _tokens(self, line: str) -> int:
        return len(self.policy.template.encoding.text(line)) + 1

    def _room(self, spared: int) -> int:
        """Tokens that a conversation may have beside those of a question.

        Raises:
            UserError: the model's positions end too early.
        """
        room = self._most if self._reach is None else min(self._most, self._reach - spared)
        if room < LEAST:
            raise UserError(
                f"expected a judge that can read {spared + LEAST} tokens, the question among them; "
                f"the positions of {self.name} end at {self._reach}; choose another"
            )
        return room


def positions(policy: Policy) -> int | None:
    """Tokens that a row may have, as far as the model's positions reach; None for any."""
    limits = [getattr(text_config(policy.hf), "max_position_embeddings", None)]
    limits.append(row_limit(policy.hf))
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def answer_starts(template: ChatTemplate, words: Sequence[str], name: str) -> list[list[int]]:
    """Token ids that each answer is, in the spellings that a model may choose.

    An answer that is several tokens in all spellings is told by its first ones. What begins several
    answers, such as a space, tells nothing and is left out.

    Raises:
        UserError: an answer has no beginning of its own.
    """
    found: list[set[int]] = []
    encoders = (template.encoding.text, template.encoding.reply)
    for word in words:
        spellings = {space + w for space in ("", " ") for w in (word, word.capitalize())}
        encoded = [encode(s) for s in spellings for encode in encoders]
        whole = {ids[0] for ids in encoded if len(ids) == 1}
        found.append(whole or {ids[0] for ids in encoded if ids})
    starts = [
        sorted(own - set().union(*(other for other in found if other is not own))) for own in found
    ]
    if not all(starts):
        raise UserError(
            f"expected a judge whose tokenizer tells {', '.join(words)} apart by their first "
            f"token; that of {name} does not; choose another"
        )
    return starts
