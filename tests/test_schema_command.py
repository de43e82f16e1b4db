"""``outbox_schema``: the JSON Schema of a record or a request, under the contract of the settings or another."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from evermuse_outbox.evermuse.records import record_schema, request_schema


def printed(*options):
    out = io.StringIO()
    call_command("outbox_schema", *options, stdout=out)
    assert out.getvalue().startswith('{\n  "$schema"')
    return json.loads(out.getvalue())


def test_a_record_under_the_contract_of_the_settings(outbox_settings):
    assert printed() == record_schema("reference")
    outbox_settings(CONTRACT="openapi")
    assert printed() == record_schema("openapi")


@pytest.mark.parametrize("contract", ["reference", "openapi"])
def test_the_contract_can_be_given(contract):
    assert printed("--contract", contract) == record_schema(contract)
    assert printed("--contract", contract, "--request") == request_schema(contract)


def test_wrong_settings_need_a_contract(outbox_settings):
    outbox_settings(CONTRACT="other")
    with pytest.raises(CommandError, match=r"CONTRACT.* Or give --contract\."):
        printed()
    assert printed("--contract", "openapi") == record_schema("openapi")
