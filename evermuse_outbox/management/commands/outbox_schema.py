"""``manage.py outbox_schema``: print the JSON Schema of a record or of a request."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from ...conf import DEFAULT_WORKSPACE, get_settings
from ...evermuse.records import CONTRACTS, record_schema, request_schema
from .. import CommandWithExamples


class Command(CommandWithExamples):
    help = (
        "Print the JSON Schema (draft 2020-12) of a record as it is sent, with a description and an example of each "
        "field. It is made from the rules of enqueue. No database is used."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_schema                       a record, under the contract of the settings\n"
        "  manage.py outbox_schema --contract openapi    a record, under this contract\n"
        "  manage.py outbox_schema --request             the JSON body of a request\n"
    )

    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--contract", choices=CONTRACTS, help="the contract; by default that of the default workspace"
        )
        parser.add_argument("--request", action="store_true", help="print the schema of a request")

    def handle(self, *args: Any, **options: Any) -> None:
        contract = options["contract"] or _contract_of_settings()
        schema = request_schema(contract) if options["request"] else record_schema(contract)
        for line in json.dumps(schema, indent=2, ensure_ascii=False).splitlines():
            self.stdout.write(line)


def _contract_of_settings() -> str:
    try:
        return get_settings().workspace(DEFAULT_WORKSPACE).contract
    except ImproperlyConfigured as error:
        raise CommandError(f"{error} Or give --contract.") from None
