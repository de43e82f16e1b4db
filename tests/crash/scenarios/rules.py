"""Standing rules are made, applied and ended. A record is held or discarded with its rule noted and counted, or not."""

from __future__ import annotations

from datetime import timedelta

from evermuse_outbox.delivery.deferral import apply_all_due
from evermuse_outbox.delivery.loop import seal_next
from evermuse_outbox.delivery.rules import tend_rules
from evermuse_outbox.delivery.sending import give_back
from evermuse_outbox.models import OutboxAction, OutboxDeferral, OutboxRule, OutboxRuleMatch
from evermuse_outbox.operations import RuleDefinition, end_rule, make_rule
from evermuse_outbox.sandbox import Fault

from ..environment import Environment
from ..scenario import scenario

MINUTE = timedelta(minutes=1)


def make(env: Environment, action: str, vendor_id: str) -> None:
    """Make a rule for records with this vendor id."""
    make_rule(env.alias, RuleDefinition(action, vendor_id=vendor_id), reason="wrong", clock=env.context.clock)


def tend(env: Environment) -> None:
    """Tend the rules, as each worker does once a second."""
    for _ in range(3):
        tend_rules(env.alias, env.context.clock)
        apply_all_due(env.alias, "default", env.context.clock)


def check_counts(env: Environment, states: list[str]) -> None:
    """Check that the notes and the counts of the rules are those of the records."""
    rules = list(OutboxRule.objects.using(env.alias))
    assert sum(rule.discarded for rule in rules) == states.count("discarded")
    assert OutboxRuleMatch.objects.using(env.alias).count() == states.count("discarded")
    assert OutboxDeferral.objects.using(env.alias).count() == states.count("held")
    assert sum(rule.held for rule in rules) >= states.count("held")


def prepare_sealed(env):
    """Leave three records in a sealed batch that was given back."""
    env.enqueue(1, 2, 3)
    give_back(env.context, seal_next(env.context))


def check_made(env: Environment, states: list[str]) -> None:
    """Check that the rule was applied if and only if it was made and recorded."""
    was_made = OutboxRule.objects.using(env.alias).exists()
    assert OutboxAction.objects.using(env.alias).exists() == was_made
    assert states == ["discarded" if was_made else "delivered", "delivered", "delivered"]
    check_counts(env, states)


@scenario(prepare=prepare_sealed, repair=tend, expected=check_made)
def rule_made(env):
    """A person makes a rule, and a sealed batch is withdrawn because of it."""
    make(env, "discard", "msg-1")


def prepare_rules(env):
    """Make a rule that holds a record and one that discards a record, and enqueue three."""
    make(env, "hold", "msg-1")
    make(env, "discard", "msg-2")
    env.enqueue(1, 2, 3)


def check_withheld(env: Environment, states: list[str]) -> None:
    """Check that the rules were applied to two of the records."""
    assert states == ["held", "discarded", "delivered"]
    check_counts(env, states)


@scenario(prepare=prepare_rules, expected=check_withheld, is_main=True)
def records_withheld(env):
    """Pending records are held and discarded, and the other one is sealed and sent."""
    env.send()


def prepare_held(env):
    """Let a rule hold all records."""
    make(env, "hold", "msg-*")
    env.enqueue(1, 2, 3)
    env.relay()


def check_ended(env: Environment, states: list[str]) -> None:
    """Check that the records were released if and only if the rule was ended."""
    was_ended = not OutboxRule.objects.using(env.alias).active().exists()
    assert states == ["delivered" if was_ended else "held"] * 3
    check_counts(env, states)


@scenario(prepare=prepare_held, repair=tend, expected=check_ended, is_main=True)
def rule_ended(env):
    """A person ends a rule, and the records that it held become pending again."""
    for rule in OutboxRule.objects.using(env.alias).active():
        end_rule(env.alias, rule.pk, clock=env.context.clock)
    tend(env)


def prepare_over(env):
    """Make a rule that is over after a minute, and let it hold a record."""
    until = env.clock.now().replace(microsecond=0) + MINUTE
    definition = RuleDefinition("hold", vendor_id="msg-*", until=until)
    make_rule(env.alias, definition, reason="wrong", clock=env.context.clock)
    OutboxRule.objects.using(env.alias).update(applied_at=None)
    env.enqueue(1, 2, 3)
    env.relay()


@scenario(prepare=prepare_over, repair=lambda env: (env.clock.move(61), tend(env)))
def rule_over(env):
    """A rule is noted as applied, and ends when its time is over."""
    tend(env)
    env.clock.move(61)
    tend(env)


def prepare_under_way(env):
    """Make a rule while a worker holds a batch with a matching record."""
    env.enqueue(1, 2, 3)
    sealed = seal_next(env.context)
    make(env, "discard", "msg-1")
    give_back(env.context, sealed)


def check_refused(env: Environment, states: list[str]) -> None:
    """Check that the record was discarded, or sent to its end if its batch was in doubt."""
    assert states in (["discarded", "delivered", "delivered"], ["delivered"] * 3)
    check_counts(env, states)


@scenario(prepare=prepare_under_way, faults=[Fault(status=413)], expected=check_refused)
def refused_with_rule(env):
    """Evermuse refuses a batch with a matching record, which becomes pending, and is discarded."""
    env.send()
