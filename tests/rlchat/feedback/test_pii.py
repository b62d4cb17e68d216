"""What reaches or names a person is masked; order numbers, amounts and sums are not."""

from __future__ import annotations

import time

import phonenumbers
import pytest

from rlchat.errors import UserError
from rlchat.feedback.pii import check_region, masked
from rlchat.rollout.environment import EnvConfig, TextEnv
from rlchat_envs import DialogueEnv

WORLDS = ("Support", "SupportHard", "Finance", "FinanceFacts", "Tutoring", "Medical")
EACH = 60  # conversations of a world


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Write to o'brien.k+shop@mail.example.co.uk.", "Write to [e-mail]."),
        ("ANNA@EXAMPLE.ORG, bob@b\u00fccher.de", "[e-mail], [e-mail]"),
        ("Call +49 30 1234567 or (415) 555-2671.", "Call [phone] or [phone]."),
        ("415-555-2671/4155552672", "[phone]/[phone]"),
        ("Card 4111 1111 1111 1111 12/27, code 123", "Card [card] 12/27, code 123"),
        ("number 2 4111-1111-1111-1111", "number 2 [card]"),
        ("378282246310005 and 5555555555554444", "[card] and [card]"),
        ("pay DE89 3704 0044 0532 0130 00 please", "pay [account] please"),
        ("gb29nwbk60161331926819", "[account]"),
        ("I am @karl.heinz!", "I am [account]!"),
        ("My username is karl_77.", "My username is [account]."),
        ('User name: bob, login="carol"', 'User name: [account], login="[account]"'),
        ("account number is 12345678.", "account number is [account]."),
    ],
)
def test_what_is_masked(text: str, left: str) -> None:
    assert masked(text) == left
    assert masked(left) == left


@pytest.mark.parametrize(
    "text",
    [
        "My order is A-10234, not X5139; it came on 2026-11-03, 12/03/2024.",
        "It costs $1,234,567.89 or 1 200 000 euros, 3.5% a year for 60 months.",
        "12345 + 67890 = 80235; 7/8 of 4096 is 3584; 3 * (4 + 5) = 27",
        "Postcode 90210, 87 Old Tannery Road, flat 4; room 1203.",
        "4111 1111 1111 1112 fails the check, as does DE88 3704 0044 0532 0130 00",
        "My login is gone. We are @ home. It weighs 10 @ noon",
        "Rates: 1.25 2.50 3.75 5.00",
        "",
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert masked(text) == text


def test_the_region_knows_its_own_numbers() -> None:
    assert masked("030 1234567", "DE") == "[phone]"
    assert masked("030 1234567", "US") == "030 1234567"
    check_region("GB")
    with pytest.raises(UserError, match="two capital letters, as in US, GB or DE; got 'uk'"):
        check_region("uk")


@pytest.mark.parametrize("part", ["x", "1", "a@", "@", "a.", "12-", "username ", "b@x.org "])
def test_a_long_line_takes_no_long_time(part: str) -> None:
    start = time.perf_counter()
    masked(part * (20_000 // len(part)))
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("name", WORLDS)
def test_nothing_of_our_worlds_is_masked(name: str) -> None:
    """Of these conversations nothing may be: their people have no identifiers."""
    messages, changed = 0, []
    for index in range(EACH):
        world = TextEnv(EnvConfig(f"rlchat/{name}-v0"), ("train", "dev", "test")[index % 3])
        world.reset(index)
        env = world.env.unwrapped
        assert isinstance(env, DialogueEnv)
        agent = env.scenario.agents["expert" if index % 2 else "demonstrator"](index)
        over = False
        while not over:
            outcome = world.step(agent.reply(world.conversation, world.privileged))
            over = outcome.terminated or outcome.truncated
        said = [m.content for m in world.conversation] + [str(env.case.privileged["card"])]
        messages += len(said)
        changed += [(text, masked(text)) for text in said if masked(text) != text]
    print(f"{name}: {messages} messages of {EACH} conversations, {len(changed)} masked")
    assert changed == []


def test_every_region_s_numbers_are_found_with_their_country_s_code() -> None:
    """By the numbers that the makers of `phonenumbers` give as examples."""
    missed = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for form in (
            phonenumbers.PhoneNumberFormat.INTERNATIONAL,
            phonenumbers.PhoneNumberFormat.E164,
        ):
            number = phonenumbers.format_number(phonenumbers.example_number(region), form)
            if masked(f"Ring me at {number}, please.") != "Ring me at [phone], please.":
                missed.append(number)
    assert missed == []
