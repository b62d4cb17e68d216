"""What was asked for in an episode: its environment is begun again with the same seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlchat.errors import UserError
from rlchat.evaluation.report.dialogues import Dialogue
from rlchat.rollout.env_pool import is_ours
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat.rollout.hosting.answers import EnvError

MOST_VALUES = 12  # of a fact that episodes are grouped by
FEWEST = 2.0  # episodes of a value, on average
LONGEST = 60  # characters of a value
_OURS = "rlchat/"


def tell_goals(dialogues: Sequence[Dialogue]) -> None:
    """Write into each dialogue what its user wanted and was like, where that can be known.

    It can in environments of `rlchat_envs` whose users are made of rules: beginning an episode
    again costs a moment, and its seed decides the goal. An environment that has changed since
    begins otherwise; then nothing is told.
    """
    groups: dict[tuple[str, tuple[str, ...], str], list[Dialogue]] = {}
    for dialogue in dialogues:
        env, users, split, _ = dialogue.goal
        groups.setdefault((env, users, split), []).append(dialogue)
    for (env, users, split), own in groups.items():
        # An id of ours imports nothing of anybody else's, whatever a file says.
        if not env.startswith(_OURS) or any(user.startswith("llm") for user in users):
            continue
        try:
            config = EnvConfig(env, users)
            if is_ours(config):
                with TextEnv(config, split) as made:
                    _tell(made, own)
        except (UserError, EnvError):
            continue  # an environment that is not there any more


def _tell(env: TextEnv, dialogues: Sequence[Dialogue]) -> None:
    known: dict[int, tuple[set[tuple[str, str]], dict[str, str]]] = {}
    for dialogue in dialogues:
        if dialogue.seed not in known:
            begun: set[tuple[str, str]] = {(m.role, m.content) for m in env.reset(dialogue.seed)}
            known[dialogue.seed] = begun, facts_of(env.privileged)
        opening, facts = known[dialogue.seed]
        if _begins(opening, dialogue):
            dialogue.facts = facts


def _begins(opening: set[tuple[str, str]], dialogue: Dialogue) -> bool:
    """Whether a dialogue has these messages; a stated style may follow on the instructions."""
    said = set(dialogue.messages)
    instructions = [text for role, text in said if role == "system"]
    return all(
        (role, text) in said
        or (role == "system" and any(one.startswith(f"{text} ") for one in instructions))
        for role, text in opening
    )


def facts_of(privileged: Mapping[str, Any]) -> dict[str, str]:
    """Of what the environment hides, what can be read in a few words."""
    return {
        name.replace("_", " "): str(value)
        for name, value in privileged.items()
        if isinstance(value, str | bool | int) and 0 < len(str(value)) <= LONGEST
    }


def grouping_facts(dialogues: Iterable[Dialogue]) -> list[str]:
    """Names of facts that sort episodes into a few groups, those that tell failures apart first."""
    told = [d for d in dialogues if d.facts and d.success is not None]
    found: list[tuple[float, str]] = []
    for name in dict.fromkeys(name for d in told for name in d.facts):
        counts = Counter(d.facts[name] for d in told if name in d.facts)
        few = 2 <= len(counts) <= MOST_VALUES and counts.total() / len(counts) >= FEWEST
        if few and counts.total() == len(told):
            found.append((-_between(told, name, counts), name))
    return [name for _, name in sorted(found)]


def _between(told: Sequence[Dialogue], name: str, counts: Mapping[str, int]) -> float:
    """The share of the variance of success that lies between the groups, less what chance gives."""
    failed = Counter(d.facts[name] for d in told if d.failed)
    rate, n = failed.total() / len(told), len(told)
    if rate in (0, 1):
        return 0.0
    between = sum(count * (failed[value] / count - rate) ** 2 for value, count in counts.items())
    return between / (n * rate * (1 - rate)) - (len(counts) - 1) / n
