"""Scorers of texts that need no training: the user's sentiment, the agent's toxicity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlchat_envs import Conversation


class Sentiment:
    """How the user sounds who answers a reply, from -1 to 1; 0 where nobody answers.

    VADER (Hutto and Gilbert 2014), a lexicon with rules for English.
    """

    def __init__(self) -> None:
        """Load the lexicon.

        Raises:
            ValueError: the package is not installed.
        """
        try:
            from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
        except ImportError as error:
            raise ValueError(_absent("vadersentiment")) from error
        self._feeling: Callable[[str], dict[str, float]]
        self._feeling = SentimentIntensityAnalyzer().polarity_scores

    def score(self, conversations: Sequence[Conversation]) -> list[list[float]]:
        """Score every reply of every conversation."""
        return [
            [float(self._feeling(text)["compound"]) if text else 0.0 for text in answers(c)]
            for c in conversations
        ]


class Toxicity:
    """Minus the probability that a reply is offensive, from -1 to 0.

    A linear model over words (alt-profanity-check), for English.
    """

    def __init__(self) -> None:
        """Load the model.

        Raises:
            ValueError: the package is not installed.
        """
        try:
            from profanity_check import predict_prob
        except ImportError as error:
            raise ValueError(_absent("alt-profanity-check")) from error
        self._probability: Callable[[list[str]], Sequence[float]] = predict_prob

    def score(self, conversations: Sequence[Conversation]) -> list[list[float]]:
        """Score every reply of every conversation."""
        replies = [[m.content for m in c if m.role == "assistant"] for c in conversations]
        texts = list(dict.fromkeys(text for own in replies for text in own))
        found = self._probability(texts) if texts else []
        known = dict(zip(texts, found, strict=True))
        return [[-float(known[text]) for text in own] for own in replies]


def answers(conversation: Conversation) -> list[str]:
    """The user's answer to each reply, before the next one; empty if there is none."""
    found: list[str] = []
    for m in conversation:
        if m.role == "assistant":
            found.append("")
        elif m.role == "user" and found:
            found[-1] = f"{found[-1]} {m.content}".strip()
    return found


def _absent(package: str) -> str:
    return (
        f"expected the package {package} for this part of the reward; it is not installed; "
        "pip install 'rlchat[scorers]'"
    )
