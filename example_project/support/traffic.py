"""Generate conversations for the demo. The same seed gives the same visitors and the same texts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from django.db import transaction

from . import desk

FIRST_NAMES = (
    "Ada",
    "Björn",
    "Chidi",
    "Dunja",
    "Emre",
    "Farah",
    "Goran",
    "Hana",
    "Inés",
    "Jun",
    "Kofi",
    "Łucja",
)
LAST_NAMES = (
    "Okafor",
    "Lindqvist",
    "Haddad",
    "Novák",
    "Moreau",
    "Tanaka",
    "Silva",
    "Kaya",
    "Weiss",
    "O'Brien",
)
COMPANIES = ("acme", "northwind", "globex", "initech", "umbra", "contoso")
SUBJECTS = (
    "The export of {thing} stops halfway",
    "Dark mode for {thing}?",
    "We were charged twice for {thing}",
    "How do we share {thing} with guests?",
    "{thing} is slow since Tuesday",
)
THINGS = ("reports", "the calendar", "invoices", "the search page", "our dashboards", "the mobile app")
QUESTIONS = (
    "Hello, we cannot get {thing} to work any more. Is this known?",
    "It happens with {thing} in every browser that we have tried.",
    "Could {thing} learn this? Our whole team would use it every day.",
    "Thanks, that helped. One more question: what about {thing}?",
    "Still the same today, I am afraid. Our customers are beginning to ask about {thing}. 😕",
)
ANSWERS = (
    "Thank you for writing. Which version of {thing} do you see?",
    "We could reproduce it; a repair for {thing} is on its way.",
    "That is on our list for this quarter: {thing} comes first.",
    "Could you send us a picture of {thing} as you see it?",
)


@dataclass(slots=True)
class Visitor:
    """A visitor with one question. ``conversation_id`` is None until the visitor has opened a conversation."""

    name: str
    email: str
    subject: str
    thing: str
    conversation_id: int | None = None


class RolledBack(Exception):
    """Raised inside a transaction to roll it back on purpose."""


def visits(*, conversations: int, messages: int, seed: int, rollback: float) -> Iterator[bool]:
    """Write conversations in random order, one message and one transaction per step.

    Each step yields whether its transaction was committed; ``rollback`` percent of them are rolled back. If
    the first message of a visitor was rolled back, the next one opens the conversation.

    Args:
        conversations: Number of visitors. Each one has one conversation.
        messages: Number of messages written by each visitor, or by the desk in answer.
        seed: Seed of the random numbers.
        rollback: Percentage of transactions to roll back, from 0 to 100.
    """
    rng = random.Random(seed)  # noqa: S311 - not used for security
    visitors = [_visitor(rng) for _ in range(conversations)]
    steps = [number for number in range(conversations) for _ in range(messages)]
    rng.shuffle(steps)
    for number in steps:
        yield _write_or_roll_back(visitors[number], rng, rolls_back=rng.random() * 100 < rollback)


def _visitor(rng: random.Random) -> Visitor:
    first, last, thing = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES), rng.choice(THINGS)
    email = f"visitor{rng.randrange(100_000)}@{rng.choice(COMPANIES)}.example"
    return Visitor(f"{first} {last}", email, rng.choice(SUBJECTS).format(thing=thing).capitalize(), thing)


def _write_or_roll_back(visitor: Visitor, rng: random.Random, *, rolls_back: bool) -> bool:
    by_desk = visitor.conversation_id is not None and rng.random() < 0.4
    body = rng.choice(ANSWERS if by_desk else QUESTIONS).format(thing=visitor.thing)
    try:
        with transaction.atomic():
            conversation_id = _write(visitor, body, by_desk=by_desk)
            if rolls_back:
                raise RolledBack
    except RolledBack:
        return False
    visitor.conversation_id = conversation_id
    return True


def _write(visitor: Visitor, body: str, *, by_desk: bool) -> int:
    """Write a message, in a new conversation if the visitor has none, and return the conversation's id."""
    if visitor.conversation_id is None:
        return desk.open_conversation(
            subject=visitor.subject, customer_name=visitor.name, customer_email=visitor.email, body=body
        ).pk
    return desk.write_message(visitor.conversation_id, body, from_customer=not by_desk).conversation_id
