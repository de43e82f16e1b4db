"""A process is killed, or paused, after any step of the delivery: afterwards everything ends as it should.

The steps are not listed here. Each scenario of ``tests/crash/scenarios/`` is run once to record them. Then it is run
again for each step, in a process that kills itself right after that step.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from django.conf import settings as project
from django.db import connections

from evermuse_outbox.delivery.sending import lease_due
from evermuse_outbox.models import (
    BatchQuerySet,
    GroupQuerySet,
    RecordQuerySet,
    RuleQuerySet,
    WorkspaceQuerySet,
    record_states,
)
from evermuse_outbox.upkeep import rescue_batches
from tests.conftest import database_param
from tests.crash.crash_points import CrashPoints
from tests.crash.process_supervisor import ProcessSupervisor
from tests.crash.scenario_run import ScenarioRun
from tests.crash.scenarios import SCENARIOS
from tests.crash.write_sites import find_state_changes, find_write_sites

pytestmark = pytest.mark.long

PAUSED = [name for name, scenario in SCENARIOS.items() if scenario.is_paused]
SERVERS = ("postgres", "mariadb")


def on_every_database(names, on_servers):
    """Parametrize with one test for each scenario on SQLite, and one test for all scenarios on each server.

    After a test, a server's tables are flushed, which takes longer than a scenario.
    """
    cases = [("default", [name], name) for name in names]
    cases += [(server, on_servers, server) for server in SERVERS]
    params = [
        pytest.param(alias, scenarios, id=case_id, marks=database_param(alias, True).marks)
        for alias, scenarios, case_id in cases
    ]
    return pytest.mark.parametrize(("database", "names"), params)


@pytest.fixture(scope="session")
def supervisor(django_db_setup):
    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in project.DATABASES}
    running = ProcessSupervisor(names)
    yield running
    running.close()


@pytest.fixture(scope="session")
def crash_points():
    """Return the crash points of this session."""
    return CrashPoints()


@pytest.fixture(scope="session")
def pause_points():
    """Return the steps after which processes are paused, for each test that pauses them."""
    return defaultdict(CrashPoints)


@pytest.fixture(scope="session")
def reached_lines():
    """Return the lines that each scenario has reached, for the scenarios that were run in this session."""
    return {}


@pytest.fixture
def open_runs(supervisor, tmp_path):
    """Return a function that opens a run of each scenario in turn and records its steps."""

    def opened(names, database):
        for name in names:
            run = ScenarioRun(SCENARIOS[name], database, supervisor, str(tmp_path / "clock"))
            with run.open():
                yield run, run.record_steps()

    return opened


def lines_of(steps):
    return {line for step in steps for line in step.lines}


@on_every_database(SCENARIOS, on_servers=list(SCENARIOS))
def test_killed_after_any_step(open_runs, crash_points, reached_lines, database, names):
    for run, steps in open_runs(names, database):
        reached_lines.setdefault(run.scenario.name, set()).update(lines_of(steps))
        run.restart_workers()
        run.check()
        for number in crash_points.choose(run.scenario, database, steps):
            with run.noting("killed", number, steps[number - 1]):
                run.kill(after=number)
                run.restart_workers()
                run.check()


@pytest.mark.parametrize("name", PAUSED)
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_goes_on_after_everything_is_finished_changes_nothing(open_runs, pause_points, name):
    for run, steps in open_runs([name], "default"):
        for number in pause_points["finished"].choose_between_transactions("default", steps):
            with run.noting("stopped", number, steps[number - 1]):
                paused_worker = run.stop(after=number)
                run.restart_workers()
                rows, sent_keys, lines = run.snapshot(), run.sent_keys(), run.stored_lines()
                run.env.clock.move(60)  # so that its writes would differ from those before
                run.resume(paused_worker)
                assert run.snapshot() == rows
                assert run.stored_lines() == lines
                # It may send once more, with the key and the bytes of before.
                assert set(run.sent_keys()) == set(sent_keys)
                run.check()


@on_every_database(PAUSED, on_servers=[name for name in PAUSED if SCENARIOS[name].is_main])
def test_a_worker_that_goes_on_after_its_lease_was_taken_over_changes_nothing(
    open_runs, pause_points, database, names
):
    for run, steps in open_runs(names, database):
        for number in pause_points["leased"].choose_between_transactions(database, steps):
            with run.noting("stopped", number, steps[number - 1]):
                paused_worker = run.stop(after=number)
                context = run.env.context
                run.env.clock.move(context.settings.lease + 1)
                rescue_batches(database, context.clock)
                taken_over = lease_due(context)
                rows = run.snapshot()
                run.resume(paused_worker)
                if taken_over:
                    assert run.snapshot() == rows
                run.restart_workers()
                run.check()


@pytest.mark.django_db(transaction=True)
def test_a_scenario_reaches_every_write_site(open_runs, reached_lines):
    for run, steps in open_runs(SCENARIOS.keys() - reached_lines.keys(), "default"):
        reached_lines[run.scenario.name] = lines_of(steps)
    lines = set().union(*reached_lines.values())
    missing = [str(site) for site in find_write_sites() if not site.is_reached(lines)]
    assert not missing, (
        "No scenario kills a process at these places. Add one to tests/crash/scenarios/: a function with "
        "@scenario that reaches them.\n  " + "\n  ".join(missing)
    )


@pytest.mark.parametrize(
    "query_set", [BatchQuerySet, GroupQuerySet, RecordQuerySet, RuleQuerySet, WorkspaceQuerySet]
)
def test_every_transition_is_found_as_a_state_change(query_set):
    transitions = getattr(query_set, "transitions", record_states.TRANSITIONS)
    assert set(transitions) <= find_state_changes()
