"""The example of the page about many workspaces returns settings that the outbox accepts."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

from evermuse_outbox.conf import get_settings
from tests.documentation.blocks import FILE, read_blocks
from tests.documentation.commands import ROOT

PAGE = ROOT / "docs" / "how-to" / "many-workspaces.md"


def function_of_the_page():
    (block,) = (
        block
        for block in read_blocks(PAGE, ROOT)
        if (file := FILE.match(block.text)) and file["path"] == "customers/workspaces.py"
    )
    names = {"__name__": "customers.workspaces"}
    exec(compile(block.text, str(block), "exec"), names)
    return names["read_workspaces"]


def test_the_function_of_the_page(monkeypatch, settings):
    rows = [SimpleNamespace(slug="acme", evermuse_key="em_sk_acme", requests_per_second=5.0, is_active=True)]

    def select(**conditions):
        assert conditions == {"is_active": True}
        return rows

    models = ModuleType("customers.models")
    models.Customer = SimpleNamespace(objects=SimpleNamespace(filter=select))
    monkeypatch.setitem(sys.modules, "customers", ModuleType("customers"))
    monkeypatch.setitem(sys.modules, "customers.models", models)
    settings.EVERMUSE_OUTBOX = {"WORKSPACES": function_of_the_page()}
    workspace = get_settings().workspace("acme")
    assert (workspace.api_key.reveal(), workspace.rate_limit) == ("em_sk_acme", 5.0)
    assert get_settings().workspace_problems == {}
    rows.append(SimpleNamespace(slug="new", evermuse_key="em_sk_new", requests_per_second=10, is_active=True))
    assert get_settings().workspace("new").name == "new"
