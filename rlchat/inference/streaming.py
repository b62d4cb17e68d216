"""Replies piece by piece: text of growing lists of tokens, and pieces passed on as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlchat.inference.agents import OnText, Reply, ReplyStream
from rlchat.models.templates.call_formats import shown_words
from rlchat_envs import Tool

if TYPE_CHECKING:  # which brings torch
    from rlchat.models.chat_template import ChatTemplate

_HALF = "\N{REPLACEMENT CHARACTER}"  # what the bytes of an unfinished character decode to


class TextStream:
    """Passes on the text of a growing list of tokens; a character only when it is whole.

    So are calls of functions.
    """

    def __init__(self, template: ChatTemplate, on_text: OnText, tools: Sequence[Tool] = ()):
        self._template, self._on_text, self._shown = template, on_text, ""
        self._tools = tools

    def show(self, ids: list[int], last: bool, over: bool = False) -> str:
        """Pass on the text that is new since the last call; return all of it.

        Args:
            ids: all tokens so far.
            last: nothing follows, so that bytes that are no character are shown as such.
            over: nothing follows, though the message was cut off.
        """
        text = self._template.text(ids, self._tools if last or over else ())
        if not last:
            text = text.rstrip(_HALF)
        if self._tools and not (last or over):
            text = shown_words(text)
        if not text.startswith(self._shown):
            return text  # a tokenizer that tidied up behind itself: wait until it fits again
        new, self._shown = text[len(self._shown) :], text
        if new:
            self._on_text(new)
        return text


def pass_on(pieces: ReplyStream, on_text: OnText) -> Reply:
    """Give each piece of a reply to a function as it comes; Ctrl-C in it ends the message."""
    interrupted = False
    while True:
        try:
            piece = pieces.throw(KeyboardInterrupt) if interrupted else next(pieces)
        except StopIteration as end:
            reply: Reply = end.value
            return reply
        interrupted = False
        try:
            on_text(piece)
        except KeyboardInterrupt:
            interrupted = True
