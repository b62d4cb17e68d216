"""The commands with which a person rates replies in the chat."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from rlchat.cli.options import ChatOptions
from rlchat.cli.tables import indented, label
from rlchat.cli.terminal import ReadLine
from rlchat.errors import UserError
from rlchat.feedback.pii import masked
from rlchat.feedback.recorder import RatingContext
from rlchat.feedback.store import Kind, store_path

if TYPE_CHECKING:  # which brings torch
    from rlchat.cli.chat import Chat
    from rlchat.inference.agents import Reply

STARS = ("1", "2", "3", "4", "5")
NOBODY = "The agent has not said anything yet."


def rating_context(options: ChatOptions, env: str, version: str) -> RatingContext:
    """Settings of the recorder of ratings: who talks to whom, and where ratings go.

    Args:
        options: of the chat.
        env: the environment; empty where there is none.
        version: of the agent.
    """
    return RatingContext(
        options.person,
        options.agent,
        version,
        env,
        options.temperature,
        store_path(),
        mask_of(options),
    )


def mask_of(options: ChatOptions) -> Callable[[str], str]:
    """Make the function that masks what identifies a person in a text that is kept or saved."""
    return partial(masked, region=options.region) if options.mask else str


def promise(options: ChatOptions) -> str:
    """Tell a person whether their ratings are kept, and where."""
    if not options.feedback:
        return "Nothing is kept."
    masks = (
        "e-mail addresses, phone, card and account numbers masked" if options.mask else "as it is"
    )
    return (
        f"If you rate a reply (+ or -), the conversation up to it is kept in {store_path()}, "
        f"{masks}."
    )


def up(chat: Chat, _: str) -> None:
    """Rate the last reply as good: command ``+``."""
    rate(chat, "thumb", "Kept: a good reply.", 1)


def down(chat: Chat, _: str) -> None:
    """Rate the last reply as bad: command ``-``."""
    rate(chat, "thumb", "Kept: a bad reply.", -1)


def edit(chat: Chat, better: str) -> None:
    """Keep what would have been a better reply: command ``/edit``."""
    if not better:
        chat.say("Say what would have been better, as in /edit Could you tell me your name?")
    elif chat.ratings.replies and better == chat.ratings.replies[-1].text:
        chat.say("That is what the agent said.")
    else:
        told = "Kept: yours is better. The conversation goes on from what the agent said."
        rate(chat, "edit", told, -1, better)


def comment(chat: Chat, remark: str) -> None:
    """Keep a remark on the last reply: command ``/comment``."""
    if remark:
        rate(chat, "comment", "Kept: your comment on the last reply.", text=remark)
    else:
        chat.say("Say what you think of the last reply, as in /comment Too long.")


def stars(chat: Chat, count: str) -> None:
    """Keep 1 to 5 stars for the conversation so far: command ``/rate``."""
    if count in STARS:
        rate(chat, "stars", f"Kept: {count} of 5 for this conversation.", int(count))
    else:
        chat.say(f"Say 1 to 5, as in /rate 4{f'; got {count}' if count else ''}.")


def ab(chat: Chat, _: str) -> None:
    """Sample another reply in the place of the last one; the better one stays: ``/ab``."""
    if not _can_rate(chat):
        return
    if (resampler := chat.talk.resampler) is None:
        chat.say("This agent has no second reply to offer: /ab needs a language model.")
        return
    if chat.session.conversation[-1].role != "assistant":
        chat.say("Somebody has spoken since the last reply; /ab wants it to be the last word.")
        return
    first, other = chat.ratings.replies[-1], resampler.another()
    if other.stopped or other.text == first.text:
        chat.say("Stopped." if other.stopped else "A second reply came out the same; /ab again.")
        return
    swapped = chat.order.random() < 0.5
    value = compare(first.text, other.text, swapped, chat.show, chat.read)
    if value is not None:
        _settle(chat, other, value)


def ask_stars(chat: Chat) -> None:
    """Ask a person who leaves how it was, once; they may say nothing."""
    if not chat.options.feedback or chat.ratings.starred or not chat.ratings.replies:
        return
    try:
        count = chat.read(Text("How good was this conversation, 1 to 5? Enter skips: ")).strip()
    except (EOFError, KeyboardInterrupt):
        return
    if count:
        stars(chat, count)


def rate(chat: Chat, kind: Kind, told: str, value: float = 0.0, text: str = "") -> None:
    """Keep a rating of the last reply and say so with ``told``; see `RatingRecorder.rate`."""
    keep(chat, lambda: chat.ratings.rate(kind, value, text), told)


def keep(chat: Chat, write: Callable[[], None], told: str) -> bool:
    """Keep a rating and acknowledge it, or say why it is not kept."""
    if not _can_rate(chat):
        return False
    new = not chat.ratings.session
    try:
        write()
    except UserError as error:
        chat.say(f"Not kept: {error}.")
        return False
    chat.say(told)
    if new:
        session = chat.ratings.session
        chat.say(f"rlchat feedback forget --session {session} takes back this conversation.")
    return True


def _can_rate(chat: Chat) -> bool:
    if not chat.options.feedback:
        chat.say("Nothing is kept, as this is a chat with --no-feedback.")
    elif not chat.ratings.replies:
        chat.say(NOBODY)
    return chat.options.feedback and bool(chat.ratings.replies)


def compare(
    first: str, other: str, swapped: bool, show: Callable[[Text], None], read: ReadLine
) -> Literal[1, 0, -1] | None:
    """Let a person choose, not knowing which is which; None if they would rather not.

    Args:
        first: a reply.
        other: in its place.
        swapped: whether the other one is shown as A.
        show: prints.
        read: gives the person's lines.

    Returns:
        1 for the first, -1 for the other, 0 for neither.
    """
    for name, text in zip("AB", (other, first) if swapped else (first, other), strict=True):
        show(label("assistant", name) + Text(indented(text)))
    while True:
        choice = read(label("user", "a/b/=")).strip().lower()
        if choice in ("", "="):
            return 0 if choice else None
        if choice in ("a", "b"):
            return 1 if (choice == "a") != swapped else -1
        show(Text("Say a or b, = if neither is better, or nothing to skip."))


def _settle(chat: Chat, said: Reply, value: Literal[1, 0, -1]) -> None:
    """Keep the choice, and go on from the reply that was chosen."""
    stays = {1: "the first one is better", 0: "neither is better", -1: "the new one is better"}
    told = f"Kept: {stays[value]}; it goes on from {'the new' if value < 0 else 'the first'} one."
    if keep(chat, lambda: chat.ratings.compare(said, value), told) and value < 0:
        assert chat.talk.resampler is not None
        chat.talk.resampler.take(said)
        chat.session.instead(said.text, chat.penalty(said))
        chat.decide()


COMMANDS: dict[str, tuple[Callable[[Chat, str], None], str, str]] = {
    "+": (up, "+ or -", "the last reply was good, or bad; changing one's mind is fine"),
    "-": (down, "", ""),
    "/ab": (ab, "/ab", "another reply beside the last one; the better one stays"),
    "/edit": (
        edit,
        "/edit TEXT",
        "what would have been better; the conversation goes on from what the agent said",
    ),
    "/comment": (comment, "/comment TEXT", "a remark on the last reply"),
    "/rate": (stars, "/rate N", "1 to 5 for the conversation so far"),
}
