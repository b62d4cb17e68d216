"""What can go wrong with an order, and what a shop does about it: goals drawn from a seed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

# What the policy calls each resolution. The agent may say it in its own words.
RESOLUTIONS: dict[str, str] = {
    "refund": "full refund",
    "store_credit": "store credit",
    "replacement": "send a replacement",
    "exchange": "exchange it",
    "repair": "repair it",
    "cancellation": "cancel the order",
    "address_change": "update the address",
    "trace": "open a carrier trace",
    "voucher": "discount voucher",
    "pickup": "redirect to a pickup point",
    "send_back": "customer refuses it at the door",
    "wait": "customer waits",
}

# What an agent may ask for, as a customer would call it. The last three help nobody here.
SLOTS: dict[str, str] = {
    "order_number": "order number",
    "postcode": "postcode",
    "reason": "reason for the return",
    "variant": "preferred version",
    "payment": "way of paying",
    "new_address": "new address",
    "fault": "description of the problem",
    "received": "delivered item",
    "email": "e-mail address",
    "phone": "phone number",
    "name": "full name",
}


@dataclass(frozen=True, slots=True)
class Intent:
    """A kind of problem.

    ``detail`` is the fact that the policy is looked up by, and that only the customer has.
    ``outcomes`` gives, for each status an order can have, the resolutions that a shop's policy
    may choose from.
    """

    detail: str
    subject: str
    outcomes: dict[str, tuple[str, ...]]


INTENTS: dict[str, Intent] = {
    "tracking": Intent(
        "postcode",
        "deliveries",
        {
            "on schedule": ("wait",),
            "running late": ("voucher", "trace"),
            "lost": ("replacement", "refund", "trace"),
        },
    ),
    "return": Intent(
        "reason",
        "returns",
        {
            "return window open": ("refund", "store_credit", "exchange"),
            "return window closed": ("store_credit", "voucher"),
        },
    ),
    "exchange": Intent(
        "variant",
        "exchanges",
        {"in stock": ("exchange",), "sold out": ("refund", "store_credit", "wait")},
    ),
    "cancel": Intent(
        "payment",
        "cancellations",
        {"in the warehouse": ("cancellation",), "shipped": ("send_back", "store_credit")},
    ),
    "address": Intent(
        "new_address",
        "address changes",
        {"in the warehouse": ("address_change",), "shipped": ("pickup", "send_back")},
    ),
    "warranty": Intent(
        "fault",
        "warranty claims",
        {
            "warranty valid": ("repair", "replacement"),
            "warranty expired": ("voucher", "store_credit", "repair"),
        },
    ),
    "damaged": Intent(
        "fault",
        "damage claims",
        {
            "claim period open": ("replacement", "refund"),
            "claim period over": ("repair", "voucher"),
        },
    ),
    "wrong_item": Intent(
        "received",
        "wrong deliveries",
        {"in stock": ("replacement",), "sold out": ("refund", "wait")},
    ),
}


Rules = tuple[tuple[str, str], ...]  # of a policy: (status, resolution), in order


@dataclass(frozen=True, slots=True)
class Goal:
    """What one customer wants, what is true of the order, and what the shop would do."""

    intent: str
    shop: str
    customer: str
    item: str
    order_number: str
    detail: str
    status: str
    policy: Rules  # every status of the intent

    @property
    def slot(self) -> str:
        """The fact, beside the order number, that the customer must be asked for."""
        return INTENTS[self.intent].detail

    @property
    def resolution(self) -> str:
        """The one right resolution: what the policy says for the record's status."""
        return dict(self.policy)[self.status]

    @property
    def facts(self) -> dict[str, str]:
        """What the customer can tell, by slot."""
        return {"order_number": self.order_number, self.slot: self.detail}

    @property
    def record_text(self) -> str:
        """The order as the desk's books show it."""
        return f"Order {self.order_number}: {self.item}, {self.customer}. Status: {self.status}."

    @property
    def policy_text(self) -> str:
        """The rule that applies, as the shop's handbook words it."""
        return word_policy(self.intent, self.policy)

    @property
    def card(self) -> str:
        """The goal in words, for a person who plays the customer."""
        slot = SLOTS[self.slot]
        return (
            f"You are {self.customer}. Your case: {self.intent.replace('_', ' ')}, item: "
            f"{self.item}. Order number: {self.order_number}. Your {slot}: {self.detail}. "
            "Tell these only when asked."
        )


def word_policy(intent: str, rules: Rules) -> str:
    """A policy as the shop's handbook words it."""
    worded = "; ".join(f"{status}: {RESOLUTIONS[r]}" for status, r in rules)
    return f"Policy on {INTENTS[intent].subject}: {worded}."


def draw_policy(rng: np.random.Generator, intent: str) -> Rules:
    """Draw what a shop does about an intent: one resolution for each status."""
    return tuple((s, str(rng.choice(o))) for s, o in INTENTS[intent].outcomes.items())


@cache
def load_data(name: str) -> dict[str, Any]:
    """Read one of the scenario's TOML files."""
    text = (
        resources.files("rlchat_envs.scenarios.support").joinpath(f"{name}.toml").read_text("utf-8")
    )
    return tomllib.loads(text)


def draw_goal(rng: np.random.Generator, split: str) -> Goal:
    """Draw a goal from one side of the split; items, names and details never cross sides."""
    pool = load_data("catalogue")[split]

    def pick(key: str) -> str:
        return str(pool[key][rng.integers(len(pool[key]))])

    name = str(rng.choice(list(INTENTS)))
    intent = INTENTS[name]
    policy = draw_policy(rng, name)
    details = {
        "postcode": f"{rng.integers(10000, 99999)}",
        "new_address": f"{rng.integers(1, 120)} {pick('streets')}",
        "reason": pick("reasons"),
        "variant": pick("variants"),
        "payment": pick("payments"),
        "fault": pick("faults"),
        "received": pick("received"),
    }
    return Goal(
        intent=name,
        shop=pick("shops"),
        customer=f"{pick('first_names')} {pick('surnames')}",
        item=pick("items"),
        order_number=f"{rng.choice(list('ABCDEFGHKLMNPRSTUVWXYZ'))}{rng.integers(1000, 9999)}",
        detail=details[intent.detail],
        status=str(rng.choice(list(intent.outcomes))),
        policy=policy,
    )
