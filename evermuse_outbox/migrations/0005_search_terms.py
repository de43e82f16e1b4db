"""The search index over all records, and the normalised error of a rejection.

Made by ``makemigrations``, except for the last operation: RunPython. No existing table is rewritten. Workers fill both
for existing rows, a limited number in each second.
"""

from importlib import import_module

from django.db import migrations, models

initial = import_module("evermuse_outbox.migrations.0001_initial")


def set_storage_parameters(apps, schema_editor):
    """Let autovacuum visit the terms as often as the records: four of them die with each purged record."""
    if schema_editor.connection.vendor != "postgresql":
        return
    table = schema_editor.quote_name(apps.get_model("evermuse_outbox", "OutboxTerm")._meta.db_table)
    parameters = initial.VACUUM | initial.ANALYZE
    assignments = ", ".join(f"{parameter} = {value}" for parameter, value in parameters.items())
    schema_editor.execute(f"ALTER TABLE {table} SET ({assignments})")


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0004_workers_and_incidents"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxSearchProgress",
            fields=[
                ("id", models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False)),
                (
                    "indexed_to",
                    models.BigIntegerField(
                        default=0,
                        help_text=(
                            "Records up to this id are in the search index, except those that were committed late."
                        ),
                        verbose_name="indexed up to",
                    ),
                ),
                (
                    "verified_to",
                    models.BigIntegerField(
                        default=0,
                        help_text=(
                            "Up to this id, records that were committed late are in the search index, too."
                        ),
                        verbose_name="verified up to",
                    ),
                ),
            ],
            options={
                "verbose_name": "progress of the search index",
                "verbose_name_plural": "progress of the search index",
            },
        ),
        migrations.CreateModel(
            name="OutboxTerm",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "term", "record_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "term",
                    models.BigIntegerField(help_text="64 bits of a hash of the term.", verbose_name="term"),
                ),
                ("record_id", models.BigIntegerField(verbose_name="record")),
            ],
            options={
                "verbose_name": "search term",
                "verbose_name_plural": "search terms",
            },
        ),
        migrations.AddField(
            model_name="outboxrejection",
            name="signature",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text=(
                    "The message without its numbers, ids and quoted words; empty until workers have filled it."
                ),
                max_length=200,
                verbose_name="error signature",
            ),
        ),
        migrations.AddIndex(
            model_name="outboxrejection",
            index=models.Index(fields=["signature", "record"], name="evermuse_rejection_signature"),
        ),
        migrations.AddIndex(
            model_name="outboxrejection",
            index=models.Index(fields=["code", "record"], name="evermuse_rejection_code"),
        ),
        migrations.AddIndex(
            model_name="outboxterm",
            index=models.Index(fields=["record_id"], name="evermuse_term_record"),
        ),
        migrations.RunPython(set_storage_parameters, migrations.RunPython.noop),
    ]
