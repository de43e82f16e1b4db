"""Create all tables, indexes and constraints of the outbox.

Three parts are not ordinary Django. Each has its reason beside it:

* partial indexes, or full indexes in their place on MySQL and MariaDB (``PartialIndex``);
* exact collations on MySQL and MariaDB (``compare_names_exactly``);
* storage parameters on PostgreSQL (``set_storage_parameters``).

A database that was made by an earlier pre-release is upgraded by ``evermuse_outbox.prerelease_migrations``.
"""

import django.db.models.deletion
from django.db import migrations, models

import evermuse_outbox.models.indexes

# PostgreSQL's defaults wait until a fifth of a table is dead. At 10,000 records per second, 20,000 rows die per second,
# because a record dies twice: when a batch takes it, and when it is purged.
VACUUM = {
    # Reuse the space of dead rows at 2 %. A lower value costs too much: each vacuum reads all indexes completely.
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_threshold": 10_000,
}
ANALYZE = {
    # Without statistics, the planner expects each identity and each batch to have a two-hundredth of all rows.
    "autovacuum_analyze_scale_factor": 0.02,
    "autovacuum_analyze_threshold": 5_000,
}
STORAGE = {
    "OutboxRecord": {
        # Half of each page stays free for the one update of a record, which then stays on its page and writes less WAL.
        "fillfactor": 50,
        **VACUUM,
        **ANALYZE,
        # The server's default of 200 lets a vacuum dirty 5,000 pages per second. Records alone die on as many.
        "autovacuum_vacuum_cost_limit": 2_000,
    },
    # No free space on the pages of batches and attempts: their updates change indexed columns.
    "OutboxBatch": VACUUM | ANALYZE,
    "OutboxAttempt": VACUUM | ANALYZE,
    # One row for each API key, rewritten many times per second. It finds room on its own page, without index entries.
    "OutboxWorkspace": {"fillfactor": 10},
    "OutboxThrottle": {"fillfactor": 10},
}
# Not set: autovacuum_vacuum_insert_scale_factor, because batches soon change the rows that such a vacuum would visit;
# toast.*, because a TOAST table follows the values of its table.

GROUP = ("workspace", "type", "product_id")
EXACT_NAMES = {
    "OutboxRecord": GROUP,
    "OutboxBatch": GROUP,
    "OutboxGroup": GROUP,
    "OutboxAttempt": ("workspace",),
    "OutboxWorkspace": ("name",),
}


def set_storage_parameters(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    for name, parameters in STORAGE.items():
        table = schema_editor.quote_name(apps.get_model("evermuse_outbox", name)._meta.db_table)
        assignments = ", ".join(f"{parameter} = {value}" for parameter, value in parameters.items())
        schema_editor.execute(f"ALTER TABLE {table} SET ({assignments})")


def compare_names_exactly(apps, schema_editor):
    """Compare names of groups and workspaces as Evermuse does.

    The default collations of MySQL and MariaDB treat ``Prod`` and ``prod`` as equal, and ``prod`` and ``prod `` too. If
    one group were paused, the other would wait with it. A workspace would send records of the other with its API key.
    """
    connection = schema_editor.connection
    if connection.vendor != "mysql":
        return
    quote = schema_editor.quote_name
    kind = f"CHARACTER SET utf8mb4 COLLATE {exact_collation(connection)} NOT NULL"
    for table, names in EXACT_NAMES.items():
        model = apps.get_model("evermuse_outbox", table)
        columns = [model._meta.get_field(name) for name in names]
        changes = ", ".join(f"MODIFY {quote(c.column)} {c.db_type(connection)} {kind}" for c in columns)
        schema_editor.execute(f"ALTER TABLE {quote(model._meta.db_table)} {changes}")


def exact_collation(connection):
    """Return the collation of this server that distinguishes all names."""
    if connection.mysql_is_mariadb:
        return "utf8mb4_nopad_bin"
    # MySQL before 8.0.17 has no collation that respects trailing spaces; utf8mb4_bin respects everything else.
    return "utf8mb4_0900_bin" if connection.mysql_version >= (8, 0, 17) else "utf8mb4_bin"


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="OutboxThrottle",
            fields=[
                (
                    "scope",
                    models.CharField(max_length=32, primary_key=True, serialize=False, verbose_name="scope"),
                ),
                ("next_slot_at", models.FloatField(default=0, verbose_name="next slot")),
                ("blocked_until", models.FloatField(default=0, verbose_name="blocked until")),
                ("min_latency", models.FloatField(null=True, verbose_name="minimum latency")),
                (
                    "min_latency_candidate",
                    models.FloatField(null=True, verbose_name="minimum latency of this window"),
                ),
                (
                    "latency_samples",
                    models.PositiveIntegerField(default=0, verbose_name="sends of this window"),
                ),
                ("permits", models.JSONField(default=list, verbose_name="permits of the last second")),
                ("lock_count", models.PositiveBigIntegerField(default=0, verbose_name="times locked")),
            ],
            options={
                "verbose_name": "throttle",
                "verbose_name_plural": "throttles",
            },
        ),
        migrations.CreateModel(
            name="OutboxWorkspace",
            fields=[
                (
                    "name",
                    models.CharField(max_length=64, primary_key=True, serialize=False, verbose_name="name"),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("active", "active"),
                            ("paused", "paused"),
                            ("backing_off", "backing off"),
                            ("throttled", "throttled"),
                        ],
                        default="active",
                        max_length=12,
                        verbose_name="state",
                    ),
                ),
                ("blocked_until", models.DateTimeField(blank=True, null=True, verbose_name="blocked until")),
                ("reason", models.TextField(blank=True, default="", verbose_name="reason")),
                ("failures", models.PositiveIntegerField(default=0, verbose_name="failures in a row")),
                (
                    "seal_count",
                    models.PositiveBigIntegerField(
                        default=0,
                        help_text="Number of searches for records to seal.",
                        verbose_name="sealing attempts",
                    ),
                ),
                (
                    "run_queue",
                    models.JSONField(
                        blank=True,
                        default=dict,
                        help_text="The groups to seal next, and what is known of them.",
                        verbose_name="run queue",
                    ),
                ),
                (
                    "arrival_rates",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="Records per second of the busiest groups.",
                        verbose_name="arrival rates",
                    ),
                ),
                ("next_read_at", models.DateTimeField(blank=True, null=True, verbose_name="next read at")),
                (
                    "typical_completion_seconds",
                    models.FloatField(
                        default=0,
                        help_text="Seconds from acceptance to completion of a batch; 0 if unknown.",
                        verbose_name="typical completion time",
                    ),
                ),
            ],
            options={
                "verbose_name": "workspace",
                "verbose_name_plural": "workspaces",
            },
        ),
        migrations.CreateModel(
            name="OutboxBatch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("workspace", models.CharField(max_length=64, verbose_name="workspace")),
                ("type", models.CharField(max_length=32, verbose_name="type")),
                ("product_id", models.CharField(max_length=128, verbose_name="product id")),
                ("contract", models.CharField(max_length=16, verbose_name="contract")),
                ("body_format", models.CharField(max_length=8, verbose_name="body format")),
                (
                    "format_hint",
                    models.CharField(blank=True, default="", max_length=8, verbose_name="format hint"),
                ),
                ("key", models.CharField(max_length=64, unique=True, verbose_name="idempotency key")),
                (
                    "sha256",
                    models.CharField(
                        help_text="Hash of the request body.", max_length=64, verbose_name="SHA-256"
                    ),
                ),
                ("record_count", models.PositiveIntegerField(verbose_name="records")),
                ("byte_count", models.PositiveIntegerField(verbose_name="bytes")),
                ("attachment_count", models.PositiveIntegerField(default=0, verbose_name="attachments")),
                (
                    "resends",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="Number of resends under a new key after Evermuse reported FAILED.",
                        verbose_name="resends",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("sealed", "sealed"),
                            ("sending", "sending"),
                            ("in_doubt", "in doubt"),
                            ("accepted", "accepted"),
                            ("complete", "complete"),
                            ("refused", "refused"),
                            ("split", "split"),
                            ("isolating", "isolating"),
                            ("failed", "failed"),
                            ("withdrawn", "withdrawn"),
                        ],
                        default="sealed",
                        max_length=9,
                        verbose_name="state",
                    ),
                ),
                (
                    "in_doubt",
                    models.BooleanField(
                        default=False,
                        help_text="An attempt ended without a clear answer: Evermuse may have the batch.",
                        verbose_name="in doubt",
                    ),
                ),
                (
                    "isolation",
                    models.JSONField(
                        blank=True,
                        help_text="What is known of its bad records during isolation.",
                        null=True,
                        verbose_name="isolation",
                    ),
                ),
                ("failures", models.PositiveIntegerField(default=0, verbose_name="failures in a row")),
                ("message", models.TextField(blank=True, default="", verbose_name="message")),
                ("sealed_at", models.DateTimeField(verbose_name="sealed at")),
                ("due_at", models.DateTimeField(verbose_name="due at")),
                ("lease_token", models.UUIDField(blank=True, null=True, verbose_name="lease token")),
                ("leased_until", models.DateTimeField(blank=True, null=True, verbose_name="leased until")),
                ("accepted_at", models.DateTimeField(blank=True, null=True, verbose_name="accepted at")),
                ("finished_at", models.DateTimeField(blank=True, null=True, verbose_name="finished at")),
                (
                    "remote_id",
                    models.CharField(
                        blank=True,
                        db_index=True,
                        default="",
                        max_length=128,
                        verbose_name="batch id at Evermuse",
                    ),
                ),
                (
                    "remote_status",
                    models.CharField(
                        blank=True, default="", max_length=32, verbose_name="status at Evermuse"
                    ),
                ),
                (
                    "accepted_count",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="accepted"),
                ),
                (
                    "rejected_count",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="rejected"),
                ),
                (
                    "total_error_count",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="total errors"),
                ),
                ("errors", models.JSONField(blank=True, default=list, verbose_name="errors")),
                (
                    "attachment_status",
                    models.CharField(blank=True, default="", max_length=32, verbose_name="attachment status"),
                ),
                (
                    "attachment_total",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="attachments to fetch"),
                ),
                (
                    "attachment_complete",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="attachments fetched"),
                ),
                (
                    "attachment_failed",
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="attachments failed"),
                ),
                ("polls", models.PositiveIntegerField(default=0, verbose_name="polls")),
                ("next_poll_at", models.DateTimeField(blank=True, null=True, verbose_name="next poll at")),
                (
                    "listing_cursor",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Cursor of its listing page; empty for the newest page, null if it is on no page.",
                        max_length=256,
                        null=True,
                        verbose_name="listing cursor",
                    ),
                ),
                (
                    "parent",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="parts",
                        to="evermuse_outbox.outboxbatch",
                        verbose_name="parent",
                    ),
                ),
            ],
            options={
                "verbose_name": "batch",
                "verbose_name_plural": "batches",
            },
        ),
        migrations.CreateModel(
            name="OutboxAttempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("workspace", models.CharField(max_length=64, verbose_name="workspace")),
                (
                    "call",
                    models.CharField(
                        choices=[("ingest", "send"), ("status", "status"), ("listing", "listing")],
                        max_length=8,
                        verbose_name="call",
                    ),
                ),
                ("started_at", models.DateTimeField(db_index=True, verbose_name="started at")),
                (
                    "seconds",
                    models.FloatField(
                        help_text="From the first byte sent to the last byte received.",
                        null=True,
                        verbose_name="seconds",
                    ),
                ),
                ("status", models.PositiveSmallIntegerField(null=True, verbose_name="HTTP status")),
                ("outcome", models.CharField(max_length=16, verbose_name="outcome")),
                ("detail", models.TextField(blank=True, default="", verbose_name="answer")),
                (
                    "batch",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="attempts",
                        to="evermuse_outbox.outboxbatch",
                        verbose_name="batch",
                    ),
                ),
            ],
            options={
                "verbose_name": "attempt",
                "verbose_name_plural": "attempts",
                "ordering": ["pk"],
            },
        ),
        migrations.CreateModel(
            name="OutboxGroup",
            fields=[
                (
                    "scope",
                    models.CharField(max_length=32, primary_key=True, serialize=False, verbose_name="scope"),
                ),
                ("workspace", models.CharField(max_length=64, verbose_name="workspace")),
                ("type", models.CharField(max_length=32, verbose_name="type")),
                ("product_id", models.CharField(max_length=128, verbose_name="product id")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("suspected", "suspected"),
                            ("paused", "paused"),
                            ("cleared", "out of trouble"),
                        ],
                        default="suspected",
                        max_length=9,
                        verbose_name="state",
                    ),
                ),
                (
                    "since",
                    models.DateTimeField(
                        help_text="Time of the first refusal in a row; if cleared, the end of the pause.",
                        verbose_name="since",
                    ),
                ),
                (
                    "error_signature",
                    models.CharField(
                        help_text="The error message without numbers and names; equal for all refusals.",
                        max_length=200,
                        verbose_name="error signature",
                    ),
                ),
                (
                    "contract",
                    models.CharField(
                        help_text="The contract of the refused batches.",
                        max_length=16,
                        verbose_name="contract",
                    ),
                ),
                (
                    "batches",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="Batches in a row that were refused in full.",
                        verbose_name="batches",
                    ),
                ),
                (
                    "records",
                    models.PositiveIntegerField(
                        default=0,
                        help_text="Records known to be refused: sent alone, or all of a batch named.",
                        verbose_name="records",
                    ),
                ),
                ("probes", models.PositiveIntegerField(default=0, verbose_name="probes")),
                ("blocked_until", models.DateTimeField(blank=True, null=True, verbose_name="next probe")),
                ("reason", models.TextField(blank=True, default="", verbose_name="reason")),
                ("advice", models.TextField(blank=True, default="", verbose_name="advice")),
            ],
            options={
                "verbose_name": "group in trouble",
                "verbose_name_plural": "groups in trouble",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "paused"), _negated=True),
                            ("blocked_until__isnull", False),
                            _connector="OR",
                        ),
                        name="evermuse_group_paused_until",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="OutboxRecord",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "workspace",
                    models.CharField(
                        help_text="The workspace that sends the record.",
                        max_length=64,
                        verbose_name="workspace",
                    ),
                ),
                ("type", models.CharField(max_length=32, verbose_name="type")),
                ("product_id", models.CharField(max_length=128, verbose_name="product id")),
                (
                    "identity",
                    models.UUIDField(
                        help_text="Hash of workspace, _type, _vendor_ids and _event_at: equal for all versions.",
                        verbose_name="identity",
                    ),
                ),
                (
                    "contract",
                    models.CharField(
                        help_text="The contract that the line is written in.",
                        max_length=16,
                        verbose_name="contract",
                    ),
                ),
                (
                    "payload",
                    models.TextField(
                        help_text="The exact JSON line, without the newline.", verbose_name="payload"
                    ),
                ),
                (
                    "size",
                    models.PositiveIntegerField(help_text="Bytes of the line in UTF-8.", verbose_name="size"),
                ),
                ("attachments", models.PositiveSmallIntegerField(default=0, verbose_name="attachments")),
                ("enqueued_at", models.DateTimeField(verbose_name="enqueued at")),
                (
                    "closed_as",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("rejected", "rejected"),
                            ("superseded", "superseded"),
                            ("discarded", "discarded"),
                        ],
                        max_length=10,
                        null=True,
                        verbose_name="closed as",
                    ),
                ),
                (
                    "superseded_by",
                    models.BigIntegerField(blank=True, null=True, verbose_name="superseded by"),
                ),
                (
                    "batch",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="records",
                        to="evermuse_outbox.outboxbatch",
                        verbose_name="batch",
                    ),
                ),
            ],
            options={
                "verbose_name": "record",
                "verbose_name_plural": "records",
            },
        ),
        migrations.CreateModel(
            name="OutboxRejection",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "position",
                    models.PositiveSmallIntegerField(
                        help_text="Position in the batch; the first is 0.", null=True, verbose_name="position"
                    ),
                ),
                ("code", models.CharField(max_length=64, verbose_name="code")),
                ("message", models.TextField(verbose_name="message")),
                ("rejected_at", models.DateTimeField(verbose_name="rejected at")),
                (
                    "batch",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="rejections",
                        to="evermuse_outbox.outboxbatch",
                        verbose_name="batch",
                    ),
                ),
                (
                    "record",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="rejections",
                        to="evermuse_outbox.outboxrecord",
                        verbose_name="record",
                    ),
                ),
            ],
            options={
                "verbose_name": "rejection",
                "verbose_name_plural": "rejections",
            },
        ),
        migrations.AddIndex(
            model_name="outboxbatch",
            index=evermuse_outbox.models.indexes.PartialIndex(
                fields=["workspace", "due_at", "id"],
                instead=("state", "workspace", "due_at", "id"),
                name="evermuse_batch_due",
                where=models.Q(("state__in", ["sealed", "in_doubt"])),
            ),
        ),
        migrations.AddIndex(
            model_name="outboxbatch",
            index=evermuse_outbox.models.indexes.PartialIndex(
                fields=["workspace", "next_poll_at", "id"],
                instead=("workspace", "next_poll_at", "id"),
                name="evermuse_batch_poll",
                where=models.Q(("next_poll_at__isnull", False)),
            ),
        ),
        migrations.AddIndex(
            model_name="outboxbatch",
            index=evermuse_outbox.models.indexes.PartialIndex(
                fields=["leased_until"],
                instead=("leased_until",),
                name="evermuse_batch_lease",
                where=models.Q(("state", "sending")),
            ),
        ),
        migrations.AddIndex(
            model_name="outboxbatch",
            index=evermuse_outbox.models.indexes.PartialIndex(
                fields=["finished_at", "id"],
                instead=("next_poll_at", "finished_at", "id"),
                name="evermuse_batch_over",
                where=models.Q(("finished_at__isnull", False), ("next_poll_at__isnull", True)),
            ),
        ),
        migrations.AddIndex(
            model_name="outboxbatch",
            index=models.Index(fields=["state", "id"], name="evermuse_batch_state"),
        ),
        migrations.AddConstraint(
            model_name="outboxbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "sealed",
                            "sending",
                            "in_doubt",
                            "accepted",
                            "complete",
                            "refused",
                            "split",
                            "isolating",
                            "failed",
                            "withdrawn",
                        ],
                    )
                ),
                name="evermuse_batch_known_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="outboxbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("lease_token__isnull", False), ("leased_until__isnull", False), ("state", "sending")
                    ),
                    models.Q(
                        models.Q(("state", "sending"), _negated=True),
                        ("lease_token__isnull", True),
                        ("leased_until__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="evermuse_batch_leased",
            ),
        ),
        migrations.AddConstraint(
            model_name="outboxbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state__in", ["accepted", "complete"]), _negated=True),
                    models.Q(("remote_id", ""), _negated=True),
                    _connector="OR",
                ),
                name="evermuse_batch_remote",
            ),
        ),
        migrations.AddIndex(
            model_name="outboxrecord",
            index=evermuse_outbox.models.indexes.PartialIndex(
                fields=["workspace", "type", "product_id", "enqueued_at", "id"],
                instead=("batch", "closed_as", "workspace", "type", "product_id", "enqueued_at", "id"),
                name="evermuse_record_pending",
                where=models.Q(("batch__isnull", True), ("closed_as__isnull", True)),
            ),
        ),
        migrations.AddIndex(
            model_name="outboxrecord",
            index=evermuse_outbox.models.indexes.PartialIndex(
                fields=["batch"],
                instead=(),
                name="evermuse_record_batch",
                where=models.Q(("batch__isnull", False)),
            ),
        ),
        migrations.AddIndex(
            model_name="outboxrecord",
            index=evermuse_outbox.models.indexes.PartialIndex(
                fields=["closed_as", "id"],
                instead=("closed_as", "id"),
                name="evermuse_record_closed",
                where=models.Q(("closed_as__isnull", False)),
            ),
        ),
        migrations.AddIndex(
            model_name="outboxrecord",
            index=models.Index(fields=["identity", "id"], name="evermuse_record_identity"),
        ),
        migrations.AddConstraint(
            model_name="outboxrecord",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("closed_as__isnull", True),
                    ("closed_as__in", ["rejected", "superseded", "discarded"]),
                    _connector="OR",
                ),
                name="evermuse_record_closed_as",
            ),
        ),
        migrations.AddConstraint(
            model_name="outboxrecord",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("superseded_by__isnull", True), ("closed_as", "superseded"), _connector="OR"
                ),
                name="evermuse_record_superseded_by",
            ),
        ),
        # MySQL and MariaDB cannot roll DDL back, so Django must not open a transaction around it.
        migrations.RunPython(compare_names_exactly, migrations.RunPython.noop, atomic=False),
        migrations.RunPython(set_storage_parameters, migrations.RunPython.noop),
    ]
