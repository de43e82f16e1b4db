"""``manage.py outbox_metrics``: print the metrics for Prometheus."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from ...delivery.context import statement_deadlines
from ...metrics import NEEDS_CLIENT, expose
from .. import CommandWithExamples, add_database, databases_of


class Command(CommandWithExamples):
    help = (
        "Print all metrics in the text format of Prometheus, for the textfile collector of its node exporter. It is "
        "what the view evermuse_outbox.metrics.view returns. Needs the extra 'prometheus'."
    )

    examples = (
        "examples:\n"
        "  manage.py outbox_metrics                     print the metrics of all databases\n"
        "  manage.py outbox_metrics > outbox.prom.new && mv outbox.prom.new /var/lib/node_exporter/outbox.prom\n"
        "                                               store them for the textfile collector\n"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_database(parser)

    @statement_deadlines()
    def handle(self, *args: Any, **options: Any) -> None:
        try:
            text = expose(tuple(databases_of(options))).decode()
        except ImproperlyConfigured:
            raise CommandError(NEEDS_CLIENT) from None
        for line in text.splitlines():
            self.stdout.write(line)
