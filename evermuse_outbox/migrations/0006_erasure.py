"""Payloads that were dropped or erased."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("evermuse_outbox", "0005_search_terms"),
    ]

    operations = []
