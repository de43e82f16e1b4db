"""``manage.py outbox_rule``: hold back or discard records by a standing rule, before they are sent."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...conf import get_settings
from ...delivery.context import statement_deadlines
from ...insight import explain_rule, rule_to_json
from ...models import OutboxRule, RuleAction, RuleState
from ...operations import (
    InvalidRule,
    NotPossible,
    Preview,
    RuleDefinition,
    describe_rule,
    end_rule,
    make_rule,
    preview_rule,
)
from ...wakeup import wake_workers
from .. import (
    REFUSED,
    USAGE,
    CommandWithExamples,
    add_database,
    add_reason,
    confirm,
    databases_of,
    read_time_ahead,
)

MAX_LISTED = 100
"""Rules that a list shows: the newest ones."""


class Command(CommandWithExamples):
    help = (
        "Make, list, show or end standing rules. A rule holds back or discards the records that match it before they "
        "are sent, also those that are enqueued later. Before a rule is made, a preview shows how many of the oldest "
        "pending records match. The exit status is 0 if it is done, 1 if the question was answered with no, 2 for "
        "wrong options, and 3 if the rule has ended already."
    )
    examples = (
        "examples:\n"
        "  manage.py outbox_rule add --hold --type email --product prod-1 --until 2h --reason 'wrong import'\n"
        "                                            hold e-mails of a product for two hours\n"
        "  manage.py outbox_rule add --discard --vendor-id 'user_id=ada-*' --reason 'consent withdrawn'\n"
        "                                            discard by a pattern of an entry of _vendor_ids\n"
        "  manage.py outbox_rule add --hold --label customer=acme --reason 'ticket 7' --preview\n"
        "                                            show only what would match\n"
        "  manage.py outbox_rule list                 list the rules, the newest first\n"
        "  manage.py outbox_rule show 3               explain rule 3\n"
        "  manage.py outbox_rule end 3 --reason 'import corrected'\n"
        "                                            end it: what it holds becomes pending again\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("do", choices=("add", "list", "show", "end"), help="what to do")
        parser.add_argument(
            "rule", nargs="?", type=int, metavar="ID", help="number of the rule to show or end"
        )
        action = parser.add_mutually_exclusive_group()
        action.add_argument(
            "--hold",
            dest="action",
            action="store_const",
            const=RuleAction.HOLD.value,
            help="add: hold records back until the rule ends",
        )
        action.add_argument(
            "--discard",
            dest="action",
            action="store_const",
            const=RuleAction.DISCARD.value,
            help="add: discard records, which cannot be undone",
        )
        conditions = parser.add_argument_group("conditions", "A record must meet all of these conditions.")
        conditions.add_argument(
            "--workspace", metavar="NAME", default="", help="only records of this workspace"
        )
        conditions.add_argument("--type", metavar="TYPE", default="", help="only this _type")
        conditions.add_argument("--product", metavar="ID", default="", help="only this _product_id")
        conditions.add_argument("--label", metavar="NAME=VALUE", help="only records with this label")
        conditions.add_argument(
            "--vendor-id",
            metavar="PATTERN",
            default="",
            help="only records with an entry of _vendor_ids like this: VALUE or NAME=VALUE, each with * and ?",
        )
        conditions.add_argument("--all", action="store_true", help="confirm a rule without any condition")
        parser.add_argument(
            "--until", metavar="TIME", help="when the rule ends by itself: a duration such as 2h, or a time"
        )
        parser.add_argument(
            "--preview", action="store_true", help="add: show what would match; change nothing"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--no-input", action="store_false", dest="interactive", help="do not ask for a confirmation"
        )
        add_reason(parser)
        add_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        steps = {"add": self._add, "list": self._list, "show": self._show, "end": self._end}
        try:
            steps[options["do"]](options)
        except InvalidRule as error:
            raise CommandError("\n".join(error.errors), returncode=USAGE) from error
        except NotPossible as error:
            raise CommandError(error.message, returncode=REFUSED) from error

    # --- the actions ------------------------------------------------------------------------------

    def _add(self, options: dict[str, Any]) -> None:
        if options["json"] and options["interactive"] and not options["preview"]:
            raise CommandError("--json needs --no-input or --preview.", returncode=USAGE)
        results = [self._add_in(using, options) for using in databases_of(options)]
        if options["json"]:
            self.stdout.write(json.dumps({"rules": results}))

    def _add_in(self, using: str, options: dict[str, Any]) -> dict[str, Any]:
        rule = _definition(using, options)
        if not options["preview"]:
            _check_before_question(rule, options)
        preview = preview_rule(using, rule)
        result: dict[str, Any] = {"database": using, "preview": preview.to_json()}
        if not options["json"]:
            self.stdout.write(f"In {using}: {_describe_preview(preview)}")
        if options["preview"]:
            return result
        if options["interactive"]:
            confirm(f"Make the rule in {using}: {describe_rule(rule.to_row())}?")
        made = make_rule(using, rule, reason=options["reason"], may_match_all=options["all"])
        if not options["json"]:
            self.stdout.write(f"Made {made.row} in {using}. {explain_rule(made.row)}", self.style.SUCCESS)
            if made.withdrawn:
                self.stdout.write(f"{made.withdrawn} sealed batches were withdrawn.")
            if not made.is_applied:
                self.stdout.write(
                    "A worker may be sending a batch with matching records now.", self.style.WARNING
                )
        return result | rule_to_json(made.row) | {"withdrawn": made.withdrawn, "is_applied": made.is_applied}

    def _list(self, options: dict[str, Any]) -> None:
        rows = [
            (using, row)
            for using in databases_of(options)
            for row in OutboxRule.objects.using(using).order_by("-pk")[:MAX_LISTED]
        ]
        if options["json"]:
            listed = [{"database": using, **rule_to_json(row)} for using, row in rows]
            self.stdout.write(json.dumps({"rules": listed}))
            return
        if not rows:
            self.stdout.write("There are no rules.")
        for using, row in rows:
            style = self.style.WARNING if row.state == RuleState.ACTIVE else None
            self.stdout.write(f"{row} in {using}: {describe_rule(row)}. {explain_rule(row)}", style)

    def _show(self, options: dict[str, Any]) -> None:
        using, row = _find(options)
        if options["json"]:
            self.stdout.write(json.dumps({"database": using, **rule_to_json(row)}))
        else:
            self.stdout.write(f"{row} in {using}: {describe_rule(row)}. {explain_rule(row)}")

    def _end(self, options: dict[str, Any]) -> None:
        using, row = _find(options)
        ended = end_rule(using, row.pk, reason=options["reason"])
        for name in [row.workspace] if row.workspace else get_settings().workspaces:
            wake_workers(using, name)
        if options["json"]:
            self.stdout.write(json.dumps({"database": using, **rule_to_json(ended)}))
        else:
            self.stdout.write(f"Ended {ended} in {using}. {explain_rule(ended)}", self.style.SUCCESS)


def _definition(using: str, options: dict[str, Any]) -> RuleDefinition:
    if options["action"] is None:
        raise CommandError("Choose --hold or --discard.", returncode=USAGE)
    label = None
    if options["label"] is not None:
        name, _, value = options["label"].partition("=")
        label = (name, value)
    return RuleDefinition(
        action=options["action"],
        workspace=options["workspace"],
        type=options["type"],
        product_id=options["product"],
        label=label,
        vendor_id=options["vendor_id"],
        until=read_time_ahead(options["until"], using),
    )


def _check_before_question(rule: RuleDefinition, options: dict[str, Any]) -> None:
    """Raise CommandError for a missing option, before the question is asked."""
    if not options["reason"].strip():
        raise CommandError(
            "Give a reason with --reason: it is kept with your name and the time.", returncode=USAGE
        )
    if rule.conditions.is_empty and not options["all"]:
        raise CommandError(
            "The rule has no condition, so it concerns every record. Add a condition, or --all.",
            returncode=USAGE,
        )


def _describe_preview(preview: Preview) -> str:
    looked = f"{preview.matched:,} of the {preview.looked:,} oldest pending records match"
    if not preview.is_partial:
        looked = f"{preview.matched:,} of {preview.looked:,} pending records match"
    examples = ", ".join(f"#{pk}" for pk in preview.examples)
    return f"{looked}, for example {examples}." if examples else f"{looked}."


def _find(options: dict[str, Any]) -> tuple[str, OutboxRule]:
    """Return the rule that the options name, and its database. If several have it, ask for ``--database``."""
    pk, selected = options["rule"], databases_of(options)
    if pk is None:
        raise CommandError("Add the number of a rule. See: manage.py outbox_rule list", returncode=USAGE)
    rules = [(using, row) for using in selected for row in OutboxRule.objects.using(using).filter(pk=pk)]
    if not rules:
        raise CommandError(
            f"No rule {pk} in the database {', '.join(selected)}. See: manage.py outbox_rule list",
            returncode=USAGE,
        )
    if len(rules) > 1:
        raise CommandError(f"Several databases have a rule {pk}. Add --database.", returncode=USAGE)
    return rules[0]
