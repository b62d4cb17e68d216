"""The functions that a desk may call, and the books that they look things up in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rlchat_envs.core.tools import Call, Tool
from rlchat_envs.scenarios.support.goals import INTENTS, Goal, Rules, word_policy

ORDER, POLICY = "lookup_order", "lookup_policy"
TOPICS = {intent.subject: name for name, intent in INTENTS.items()}
TOOLS = (
    Tool.of(
        ORDER,
        "Look up an order.",
        {
            "type": "object",
            "properties": {"order_id": {"type": "string", "description": "order number"}},
            "required": ["order_id"],
        },
    ),
    Tool.of(
        POLICY,
        "Look up what the shop does in such cases, by the status of an order.",
        {
            "type": "object",
            "properties": {"topic": {"type": "string", "enum": list(TOPICS)}},
            "required": ["topic"],
        },
    ),
)


@dataclass
class Books:
    """A shop's orders and policies, and what of them has been looked up.

    Attributes:
        goal: The customer's order and problem.
        policies: What the shop does, by intent.
        has_record: Whether the order has been looked up.
        has_policy: Whether the policy that applies has.
        done: Calls that were answered.
    """

    goal: Goal
    policies: Mapping[str, Rules]
    has_record: bool = False
    has_policy: bool = False
    done: set[tuple[str, str]] = field(default_factory=set)

    def look_up(self, call: Call) -> str:
        """Answer a call, in words."""
        if call.error:
            return call.error
        name, wanted = key = _key(call)
        self.done.add(key)
        if name == POLICY:
            intent = TOPICS[wanted]
            self.has_policy = self.has_policy or intent == self.goal.intent
            return word_policy(intent, self.policies[intent])
        if wanted != self.goal.order_number:
            return f"There is no order {wanted:.40}."
        self.has_record = True
        return self.goal.record_text

    def needless(self, calls: Iterable[Call], said: str) -> int:
        """How many calls bring nothing that could help; changes nothing.

        Those are calls that are broken or were answered before, of an order that the customer has
        not named, and of a policy that does not apply.

        Args:
            calls: of one message.
            said: by the customer so far.
        """
        count, done = 0, set(self.done)
        for call in calls:
            key = ("", "") if call.error else _key(call)
            count += not key[0] or key in done or not self._to_the_point(key, said)
            done.add(key)
        return count

    def _to_the_point(self, key: tuple[str, str], said: str) -> bool:
        name, wanted = key
        if name == POLICY:
            return TOPICS[wanted] == self.goal.intent
        return bool(wanted) and wanted.lower() in said.lower()


def _key(call: Call) -> tuple[str, str]:
    """A call that is in order as its function, and what that looks for."""
    if call.name == POLICY:
        return POLICY, str(call.arguments["topic"])
    return ORDER, str(call.arguments["order_id"]).strip().lstrip("#").upper()
