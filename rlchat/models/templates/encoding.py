"""Token ids of a chat template's strings and of the texts between them."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from rlchat.models.templates.cuts import Cuts


class Encoding:
    """A tokenizer as a chat template uses it: nobody's text turns into special tokens.

    Attributes:
        cuts: cuts long texts, and counts them.
        specials: ids that no text may have.
        end_of_turn: the id that stands before what follows a turn.
        prompt: what the template writes before an agent's text.
        whole: whether texts are tokenized together with what the template writes around them, as is
            needed where a word is one token with the space before it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, cuts: Cuts):
        """Begin with what every tokenizer has; the template fills in the rest."""
        self._tokenizer, self.cuts = tokenizer, cuts
        self.specials: frozenset[int] = frozenset()
        self.end_of_turn, self.prompt, self.whole = int(tokenizer.eos_token_id), "", False
        self._encoded: dict[str, list[int]] = {}  # what templates write, often
        self._strings: dict[int, str] = {}  # of single ids

    def pieces(
        self, strings: Sequence[str], texts: Sequence[str], after_turn: bool = False
    ) -> list[int]:
        """Tokenize a template's strings and the texts between them, which are cut if too long."""
        if self.whole:
            return self.together(strings, [self._cut(t) for t in texts], after_turn)
        return self.apart(strings, texts)

    def after(self, strings: Sequence[str], texts: Sequence[str]) -> list[int]:
        """Tokenize what follows a turn; see `pieces`."""
        return self.pieces(strings, texts, after_turn=True)

    def apart(self, strings: Sequence[str], texts: Sequence[str]) -> list[int]:
        """Tokenize strings and texts each by itself."""
        ids = list(self.template(strings[0]))
        for text, string in zip(texts, strings[1:], strict=True):
            ids += self.cuts.apply(self.text(text))
            ids += self.template(string)
        return ids

    def together(self, strings: Sequence[str], texts: Sequence[str], after_turn: bool) -> list[int]:
        """Tokenize strings and texts as one.

        Args:
            strings: the template's.
            texts: without any token's string.
            after_turn: whether a turn comes before, so that no text begins here.
        """
        whole = "".join(s + t for s, t in zip(strings, [*texts, ""], strict=True))
        if not after_turn:
            return self.tokenize(whole)
        before = str(self._tokenizer.convert_ids_to_tokens(self.end_of_turn))
        ids = self.tokenize(before + whole)
        return ids[1:] if ids[:1] == [self.end_of_turn] else self.tokenize(whole)

    def reply(self, text: str) -> list[int]:
        """Tokenize an agent's text, after the prompt if that makes a difference."""
        if self.whole:
            prompt = self.template(self.prompt)
            ids = self.tokenize(self.prompt + text)
            if ids[: len(prompt)] == prompt:
                return ids[len(prompt) :]
        return self.text(text)

    def text(self, text: str) -> list[int]:
        """Tokenize somebody's text: special tokens inside it stay plain characters."""
        tokenizer = self._tokenizer
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [i for i in ids if i not in self.specials]

    def template(self, text: str) -> list[int]:
        """Tokenize what a template writes."""
        if text not in self._encoded:
            self._encoded[text] = self.tokenize(text)
        return self._encoded[text]

    def tokenize(self, text: str) -> list[int]:
        """Tokenize text in which special tokens count as such."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def string(self, token: int) -> str:
        """The text of one id, marks included."""
        if token not in self._strings:
            self._strings[token] = str(self._tokenizer.decode([token]))
        return self._strings[token]

    def _cut(self, text: str) -> str:
        """The beginning of a text that is too long."""
        ids = self.text(text)
        kept = self.cuts.apply(ids)
        return text if len(kept) == len(ids) else str(self._tokenizer.decode(kept))
