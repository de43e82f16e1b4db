"""The public API: names, signatures, and which packages an import loads."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import evermuse_outbox
from evermuse_outbox import outbox

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("pydantic", "requests", "celery", "redis", "tqdm", "jsonschema_rs", "django.db.models")


def test_the_names_of_the_package():
    from evermuse_outbox import InvalidRecord, Record, evermuse
    from evermuse_outbox.evermuse import records

    assert Record is records.Record is outbox.Record
    assert InvalidRecord is evermuse.InvalidRecord is outbox.InvalidRecord
    assert set(evermuse_outbox.__all__) == {"InvalidRecord", "Record", "__version__"}
    assert all(hasattr(evermuse_outbox, name) for name in evermuse_outbox.__all__)


def test_the_names_of_the_outbox_module():
    assert set(outbox.__all__) == {
        "EnqueuedCount",
        "InvalidRecord",
        "OutboxFull",
        "Pressure",
        "Record",
        "Run",
        "aenqueue",
        "aenqueue_many",
        "enqueue",
        "enqueue_many",
        "find_run",
        "pressure",
        "reload_workspaces",
        "Times",
        "start_run",
        "validate",
    }
    assert all(hasattr(outbox, name) for name in outbox.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'evermuse_outbox' has no attribute 'Outbox'"):
        evermuse_outbox.Outbox  # noqa: B018
    with pytest.raises(ImportError):
        from evermuse_outbox import enqueue  # noqa: F401


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("enqueue", "record"),
        ("enqueue_many", "records"),
        ("aenqueue", "record"),
        ("aenqueue_many", "records"),
    ],
)
def test_the_signatures(name, first):
    function = getattr(outbox, name)
    parameters = inspect.signature(function).parameters
    options = {"using": None, "workspace": "default", "labels": None, "run": None}
    assert list(parameters) == [first, *options, "times"]
    assert parameters["times"].kind is inspect.Parameter.VAR_KEYWORD
    assert set(outbox.Times.__annotations__) == {"send_after", "expires_at", "debounce", "max_delay"}
    assert parameters[first].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert {parameters[option].kind for option in options} == {inspect.Parameter.KEYWORD_ONLY}
    assert {option: parameters[option].default for option in options} == options
    assert inspect.iscoroutinefunction(function) == name.startswith("a")
    assert function.__doc__


def test_a_record_takes_only_keyword_arguments():
    parameters = inspect.signature(evermuse_outbox.Record).parameters
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    assert required == ["type", "event_at", "vendor_ids", "product_id", "data"]


def imported_after(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    assert imported_after("import evermuse_outbox").isdisjoint(HEAVY)


def test_a_settings_file_can_import_the_schedule():
    assert imported_after("from evermuse_outbox.schedule import beat_schedule").isdisjoint(HEAVY)


def test_the_start_of_a_host_does_not_import_pydantic_or_requests():
    start = (
        "from django.conf import settings; import django; settings.configure("
        "INSTALLED_APPS=['evermuse_outbox'], DATABASES={}); django.setup(); import evermuse_outbox.outbox"
    )
    assert imported_after(start).isdisjoint({"pydantic", "requests", "tqdm", "jsonschema_rs"})
