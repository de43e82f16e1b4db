"""Three further states of a record: scheduled, held and expired."""

from django.db import migrations, models

from evermuse_outbox.models.indexes import ReplaceCheckOnline

from ._resumable import ResumableMigration

NAME = "evermuse_record_closed_as"

BEFORE = ["rejected", "superseded", "discarded"]

STATES = [*BEFORE, "scheduled", "held", "expired"]


def known_states(states):
    """Return the check constraint that ``closed_as`` is NULL or one of ``states``."""
    condition = models.Q(("closed_as__isnull", True), ("closed_as__in", states), _connector="OR")
    return models.CheckConstraint(condition=condition, name=NAME)


class Migration(ResumableMigration):
    dependencies = [
        ("evermuse_outbox", "0011_latencies"),
    ]

    operations = [
        migrations.AlterField(
            model_name="outboxrecord",
            name="closed_as",
            field=models.CharField(
                blank=True,
                choices=[(state, state) for state in STATES],
                max_length=10,
                null=True,
                verbose_name="closed as",
            ),
        ),
        ReplaceCheckOnline("outboxrecord", "closed_as", known_states(BEFORE), known_states(STATES)),
    ]
