"""A test leaves nothing in the process to the next one."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import translation

import evermuse_outbox
from evermuse_outbox import wakeup
from evermuse_outbox.foreign_text import clean_text, hide_secret, hide_values, show_value
from tests.process_state import KEPT, RESTORED, restored_process_state

PACKAGE = Path(evermuse_outbox.__file__).parent


def variables(source: str) -> Iterator[str]:
    """Yield the names of a module's private variables that have a content: no constant, no text, no tuple."""
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        name = getattr(target, "id", "")
        if name.startswith("_") and name.lower() == name and changeable(node.value):
            yield name


def changeable(value: ast.expr | None) -> bool:
    """Return whether the value is empty, or made by a call that is not known to return a constant."""
    if isinstance(value, ast.Call):
        return ast.unparse(value.func) not in ("gettext", "gettext_lazy", "ContextVar", "frozenset")
    if isinstance(value, ast.Attribute):
        return isinstance(value.value, ast.Call)
    return isinstance(value, ast.Dict | ast.List | ast.Set) and not ast.unparse(value)[1:-1]


def test_each_variable_is_restored_or_kept_for_a_reason():
    found = {
        f"{'.'.join(file.relative_to(PACKAGE).with_suffix('').parts)}.{name}".replace(".__init__.", ".")
        for file in PACKAGE.rglob("*.py")
        for name in variables(file.read_text())
    }
    known = {name.removesuffix("._epochs") for name in RESTORED} | KEPT.keys()
    assert found ^ known == set(), "add it to RESTORED or KEPT in tests/process_state.py, or remove it there"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("_known: dict[str, int] = {}", ["_known"]),
        ("_lock = Lock()", ["_lock"]),
        ("_memory = Memory()\nSIZE = int()", ["_memory"]),
        ("_NAMES = {}\n_text = 'a'\n_names = {'a': 1}", []),
        ("_is_on = ContextVar('is_on')", []),
    ],
)
def test_variables_of_a_module(source, names):
    assert list(variables(source)) == names


def test_everything_is_restored(monkeypatch):
    monkeypatch.setenv("KEPT_VARIABLE", "before")
    wakeup._silent_until["a", "b"] = 1.0
    with restored_process_state():
        hide_secret("a common word")
        hide_values(is_on=True)
        wakeup._silent_until["c", "d"] = 2.0
        os.environ["KEPT_VARIABLE"] = "after"
        os.environ["NEW_VARIABLE"] = "after"
        translation.activate("de")
    assert clean_text("a common word") == "a common word"
    assert show_value("text") == "'text'"
    assert wakeup._silent_until == {("a", "b"): 1.0}
    assert (os.environ["KEPT_VARIABLE"], os.environ.get("NEW_VARIABLE")) == ("before", None)
    assert translation.get_language() == "en-us"
