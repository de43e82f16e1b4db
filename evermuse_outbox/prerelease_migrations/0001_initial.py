"""Create the tables of the first pre-release."""

import django.db.models.deletion
from django.db import migrations, models

import evermuse_outbox.models.indexes


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
                ("free_at", models.FloatField(default=0, verbose_name="next slot")),
                ("hold_until", models.FloatField(default=0, verbose_name="held until")),
                ("quickest", models.FloatField(null=True, verbose_name="quickest answer of late")),
                ("candidate", models.FloatField(null=True, verbose_name="quickest answer of this epoch")),
                ("sends", models.PositiveIntegerField(default=0, verbose_name="sends of this epoch")),
                ("visits", models.JSONField(default=list, verbose_name="requests of the last second")),
                ("touched", models.PositiveBigIntegerField(default=0, verbose_name="times asked")),
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
                            ("open", "open"),
                            ("paused", "paused"),
                            ("backing_off", "backing off"),
                            ("throttled", "throttled"),
                        ],
                        default="open",
                        max_length=12,
                        verbose_name="state",
                    ),
                ),
                ("held_until", models.DateTimeField(blank=True, null=True, verbose_name="held until")),
                ("reason", models.TextField(blank=True, default="", verbose_name="reason")),
                ("failures", models.PositiveIntegerField(default=0, verbose_name="failures in a row")),
                (
                    "turns",
                    models.PositiveBigIntegerField(
                        default=0, help_text="Times that a batch was looked for.", verbose_name="turns"
                    ),
                ),
                (
                    "last_type",
                    models.CharField(blank=True, default="", max_length=32, verbose_name="last type"),
                ),
                (
                    "last_product_id",
                    models.CharField(blank=True, default="", max_length=128, verbose_name="last product id"),
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
                    models.CharField(help_text="Of the request body.", max_length=64, verbose_name="SHA-256"),
                ),
                ("record_count", models.PositiveIntegerField(verbose_name="records")),
                ("byte_count", models.PositiveIntegerField(verbose_name="bytes")),
                ("attachment_count", models.PositiveIntegerField(default=0, verbose_name="attachments")),
                (
                    "resends",
                    models.PositiveSmallIntegerField(
                        default=0,
                        help_text="Sent again under a new key after Evermuse said FAILED.",
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
                            ("failed", "failed"),
                        ],
                        default="sealed",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                (
                    "in_doubt",
                    models.BooleanField(
                        default=False,
                        help_text="An attempt ended without telling whether Evermuse took it.",
                        verbose_name="in doubt",
                    ),
                ),
                ("failures", models.PositiveIntegerField(default=0, verbose_name="failures in a row")),
                ("message", models.TextField(blank=True, default="", verbose_name="message")),
                ("sealed_at", models.DateTimeField(verbose_name="sealed at")),
                ("due_at", models.DateTimeField(verbose_name="due at")),
                ("lease_token", models.UUIDField(blank=True, null=True, verbose_name="lease")),
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
                    models.PositiveIntegerField(blank=True, null=True, verbose_name="errors in all"),
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
                    "parent",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="parts",
                        to="evermuse_outbox.outboxbatch",
                        verbose_name="comes from",
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
                        help_text="From the first byte sent to the last read.",
                        null=True,
                        verbose_name="seconds",
                    ),
                ),
                ("status", models.PositiveSmallIntegerField(null=True, verbose_name="HTTP status")),
                ("outcome", models.CharField(max_length=16, verbose_name="outcome")),
                ("detail", models.TextField(blank=True, default="", verbose_name="what came back")),
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
                        help_text="Whose API key sends it.", max_length=64, verbose_name="workspace"
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
                        help_text="The contract its line is written in.",
                        max_length=16,
                        verbose_name="contract",
                    ),
                ),
                (
                    "payload",
                    models.TextField(
                        help_text="The exact JSON line, without its newline.", verbose_name="payload"
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
                        help_text="In the batch, from 0.", null=True, verbose_name="position"
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
                            "failed",
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
    ]
