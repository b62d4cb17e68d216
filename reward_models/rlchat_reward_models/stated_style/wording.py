"""How a style is stated in the agent's instructions; each split has words of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlchat_envs import Conversation, Message
from rlchat_reward_models.stated_style.axes import Style

# What is held out are sentences, not the words in them: an agent that reads is to follow them too.
REQUESTS: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "brief": (
            "Reply briefly.",
            "Keep your replies short.",
            "Be concise.",
            "Answer in a few words.",
            "Style: brief.",
        ),
        "detailed": (
            "Reply in detail.",
            "Give detailed replies.",
            "Explain things fully.",
            "Answer at length.",
            "Style: detailed.",
        ),
        "formal": (
            "Use a formal tone.",
            "Be formal.",
            "Speak formally to the user.",
            "Write in a formal register.",
            "Tone: formal.",
        ),
        "friendly": (
            "Use a friendly tone.",
            "Be warm and friendly.",
            "Speak to the user as a friend would.",
            "Write casually and warmly.",
            "Tone: friendly.",
        ),
        "plain": (
            "Use plain language.",
            "Use simple words.",
            "Write so that a child understands it.",
            "Keep the words easy.",
            "Language: plain.",
        ),
        "advanced": (
            "Use advanced language.",
            "Use sophisticated words.",
            "Write for an expert reader.",
            "Choose an advanced vocabulary.",
            "Language: advanced.",
        ),
    },
    "dev": {
        "brief": ("Please keep it brief.", "Your replies should be short."),
        "detailed": ("Please be detailed.", "Your replies should be full of detail."),
        "formal": ("Please keep a formal tone.", "The tone should be formal."),
        "friendly": ("Please keep a friendly tone.", "The tone should be friendly and warm."),
        "plain": ("Please keep to plain language.", "The words should be simple and easy."),
        "advanced": ("Please keep to advanced language.", "The words should be sophisticated."),
    },
    "test": {
        "brief": ("Say it in few words.", "The user wants brief replies."),
        "detailed": ("Say it in detail.", "The user wants detailed replies."),
        "formal": ("Say it formally.", "The user wants a formal tone."),
        "friendly": ("Say it in a friendly way.", "The user wants a friendly tone."),
        "plain": ("Say it in simple words.", "The user wants plain language."),
        "advanced": ("Say it in advanced words.", "The user wants advanced language."),
    },
}


def state_style(
    conversation: Conversation, style: Style, split: str, rng: np.random.Generator
) -> Conversation:
    """A conversation whose system message states a style; it gets one if it has none.

    Args:
        conversation: from its beginning.
        style: what is stated; of nothing the conversation stays as it is.
        split: whose sentences are used.
        rng: chooses among them, and their order.
    """
    if not style:
        return conversation
    requests = [REQUESTS[split][side] for side in style]
    said = [lines[int(rng.integers(len(lines)))] for lines in requests]
    text = " ".join(said[i] for i in rng.permutation(len(said)))
    first, rest = conversation[:1], conversation[1:]
    if not first or first[0].role != "system":
        tools = first[0].tools if first else ()
        plain = tuple(replace(m, tools=()) for m in first)
        return (Message("system", text, tools), *plain, *rest)
    return (replace(first[0], content=f"{first[0].content} {text}"), *rest)
