"""Text to tokens and back: the one module that writes conversations as a model reads them.

A conversation is written in tokens once and then only appended to. What a policy sampled stays as
it was sampled; everything else is tokenized by itself, so that no text can turn into template
tokens and no earlier token ever changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from rlchat.errors import UserError
from rlchat_envs import Conversation, Message

_MARK = "\u2042"  # stands for a message's text while the template is taken apart
_STANDS_FOR = {"system": "system", "tool": "desk"}  # written as [desk] where a template lacks it


@dataclass(frozen=True, slots=True)
class TokenizedConversation:
    """A conversation as token ids, and which of them are an agent's (end-of-turn included)."""

    ids: list[int]
    action_mask: list[bool]


class ChatTemplate:
    """A tokenizer's chat template, taken apart into pieces that messages are written with.

    Works for every template in which a longer conversation starts with the shorter one's text;
    tokenizers without a template get plain ``User:`` / ``Assistant:`` lines. A role that the
    template does not know is written as a user's message with the role's name before it. In
    either case nobody can write another's mark: it is ``(desk)`` in a user's text, and the later
    lines of a text are indented.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_message_tokens: int = 512):
        """Take the template apart.

        Args:
            tokenizer: any tokenizer with an end-of-sequence token.
            max_message_tokens: longer messages that are not the agent's own are cut here.

        Raises:
            UserError: no end token, or a template that cannot be appended to.
        """
        if tokenizer.eos_token_id is None:
            raise UserError(
                "expected a tokenizer with an end-of-sequence token; this one has none; "
                "choose an instruction-tuned model"
            )
        self.tokenizer, self.max_message_tokens = tokenizer, max_message_tokens
        self.end_of_turn = int(tokenizer.eos_token_id)
        self._specials = set(tokenizer.all_special_ids)
        self._in_lines = tokenizer.chat_template is None
        opens, closes, self._said = _take_apart(tokenizer)
        encode = self._encode_template
        self._open = {role: encode(text) for role, text in opens.items()}
        self._close = {role: encode(text) for role, text in closes.items()}
        # The agent's own end-of-turn token is sampled; what follows it in the template is not.
        close = self._close["assistant"]
        if self.end_of_turn in close:
            close = close[close.index(self.end_of_turn) + 1 :]
        self._after_turn = close

    def opening(self, messages: Conversation) -> list[int]:
        """Token ids of the messages before the agent's first turn, up to where that begins."""
        return [*self._messages(messages, first=True), *self._open["assistant"]]

    def reply(self, text: str) -> list[int]:
        """Token ids of an agent's message, end-of-turn token included: the action's ids."""
        return [*self._encode_text(text), self.end_of_turn]

    def after(self, messages: Conversation, cut: bool = False) -> list[int]:
        """Token ids of what follows an agent's turn, up to where its next one begins.

        Args:
            messages: those of the user and of tools.
            cut: the turn ran out of tokens, so its closing token is written here, as observation.
        """
        closing = [self.end_of_turn] if cut else []
        return [
            *closing,
            *self._after_turn,
            *self._messages(messages, first=False),
            *self._open["assistant"],
        ]

    def conversation(self, messages: Conversation) -> TokenizedConversation:
        """Token ids of a whole conversation, from its opening to the agent's last turn."""
        turns = [i for i, m in enumerate(messages) if m.role == "assistant"]
        ids: list[int] = []
        mask: list[bool] = []
        start = 0
        for i in turns:
            between = messages[start:i]
            observed = self.after(between) if start else self.opening(between)
            said = self.reply(messages[i].content)
            ids += observed + said
            mask += [False] * len(observed) + [True] * len(said)
            start = i + 1
        return TokenizedConversation(ids, mask)

    def text(self, ids: Sequence[int]) -> str:
        """The text of an agent's token ids, without special tokens and outer white space."""
        plain = [i for i in ids if i not in self._specials]
        return str(self.tokenizer.decode(plain)).strip()

    def _messages(self, messages: Conversation, first: bool) -> list[int]:
        ids: list[int] = []
        for i, message in enumerate(messages):
            role, text = self._placed(message)
            opening = self._open[f"first {role}"] if first and i == 0 else self._open[role]
            ids += opening + self._encode_text(text)[: self.max_message_tokens]
            ids += self._close[role]
        return ids

    def _placed(self, message: Message) -> tuple[str, str]:
        text = message.content
        if self._in_lines:  # a line's start tells who speaks
            text = text.replace("\n", "\n  ")
        if message.role not in self._said:
            return "user", f"[{_STANDS_FOR[message.role]}] {text}"
        if message.role == "user":
            for role, mark in _STANDS_FOR.items():
                if role not in self._said:
                    text = text.replace(f"[{mark}]", f"({mark})")
        return message.role, text

    def _encode_text(self, text: str) -> list[int]:
        """Tokenize somebody's text: template tokens inside it stay plain characters."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [i for i in ids if i not in self._specials]

    def _encode_template(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _take_apart(
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """Find what the template writes before and after a message of each role."""
    if tokenizer.chat_template is None:
        end = str(tokenizer.eos_token)
        names = {"system": "", "user": "User: ", "assistant": "Assistant: ", "tool": "Desk: "}
        opens = names | {f"first {role}": name for role, name in names.items()}
        closes = dict.fromkeys(names, "\n") | {"assistant": f"{end}\n"}
        return opens, closes, set(names)

    def text(*roles: str, prompt: bool = False) -> str:
        chat = [{"role": role, "content": _MARK} for role in roles]
        return str(
            tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
        )

    opens, closes, said = {}, {}, {"user", "assistant"}
    try:
        opens["first user"], closes["user"] = _first_user(text)
        start = text("user")
        asked = text("user", prompt=True)
        opens["assistant"] = asked[len(start) :]
        answered = text("user", "assistant")
        _, closes["assistant"] = _around(asked, answered)
        opens["user"], _ = _around(answered, text("user", "assistant", "user"))
    except Exception as error:  # a template is somebody's program and may raise anything
        raise UserError(
            "expected a chat template in which messages follow one another unchanged; this "
            "model's differs; choose another model"
        ) from error
    for role, before in (("system", ""), ("tool", answered)):
        try:
            roles = ("system",) if role == "system" else ("user", "assistant", role)
            opens[role], closes[role] = _around(before, text(*roles))
            said.add(role)
        except Exception:  # the template refuses the role: it is written as a user's message
            continue
    opens |= {f"first {role}": opens[role] for role in said if role != "user"}
    return opens, closes, said


def _around(before: str, whole: str) -> tuple[str, str]:
    """The text before and after the one mark that ``whole`` adds to ``before``."""
    if not whole.startswith(before) or whole[len(before) :].count(_MARK) != 1:
        raise ValueError
    opening, _, closing = whole[len(before) :].partition(_MARK)
    return opening, closing


def _first_user(text: Callable[..., str]) -> tuple[str, str]:
    """The text around a user's first message; a maker's own system message is left out."""
    opening, closing = _around("", text("user"))
    try:
        return _around(text("system"), text("system", "user"))[0], closing
    except Exception:  # no system role: then there is no maker's message to leave out
        return opening, closing
