"""A process that is killed, or paused, at any step of the pipeline: afterwards everything ends where it should.

The steps are not listed here. Each scenario of ``tests/crash/scenarios/`` is played once to see them; then
it is played again for each step, by a process that kills itself right after it.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from django.conf import settings as project
from django.db import connections

from evermuse_outbox.delivery.sending import lease_due
from evermuse_outbox.upkeep import rescue_batches
from tests.conftest import _database
from tests.crash.crash_points import Points
from tests.crash.process_supervisor import Nursery
from tests.crash.scenario_run import Stage
from tests.crash.scenarios import SCENARIOS
from tests.crash.write_sites import sites

pytestmark = pytest.mark.long

WAKING = [name for name, scenario in SCENARIOS.items() if scenario.wakes]
SERVERS = ("postgres", "mariadb")


def on_every_database(names, on_servers):
    """A test for each scenario on SQLite; on a server one for all, for to flush it costs more than to play."""
    cases = [("default", [name], name) for name in names]
    cases += [(server, on_servers, server) for server in SERVERS]
    given = [
        pytest.param(db, played, id=named, marks=_database(db, True).marks) for db, played, named in cases
    ]
    return pytest.mark.parametrize(("database", "names"), given)


@pytest.fixture(scope="session")
def nursery(django_db_setup):
    names = {alias: str(connections[alias].settings_dict["NAME"]) for alias in project.DATABASES}
    running = Nursery(names)
    yield running
    running.close()


@pytest.fixture(scope="session")
def points():
    """Where processes are killed in this run."""
    return Points()


@pytest.fixture(scope="session")
def pauses():
    """Where they are paused, in each of the tests that pause them."""
    return defaultdict(Points)


@pytest.fixture(scope="session")
def walked():
    """The lines that each scenario has come to, as far as it was played in this run."""
    return {}


@pytest.fixture
def stages(nursery, tmp_path):
    """The open stages of these scenarios on a database, one after the other, each with its steps."""

    def played(names, database):
        for name in names:
            with Stage(SCENARIOS[name], database, nursery, str(tmp_path / "clock")).open() as stage:
                yield stage, stage.play()

    return played


def lines_of(steps):
    return {line for step in steps for line in step.lines}


@on_every_database(SCENARIOS, on_servers=list(SCENARIOS))
def test_killed_after_any_step(stages, points, walked, database, names):
    for stage, steps in stages(names, database):
        walked.setdefault(stage.scenario.name, set()).update(lines_of(steps))
        stage.restart()
        stage.check()
        for number in points.of(stage.scenario, database, steps):
            with stage.telling("killed", number, steps[number - 1]):
                stage.kill(after=number)
                stage.restart()
                stage.check()


@pytest.mark.parametrize("name", WAKING)
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_wakes_when_all_is_over_changes_nothing(stages, pauses, name):
    for stage, steps in stages([name], "default"):
        for number in pauses["over"].between_transactions("default", steps):
            with stage.telling("stopped", number, steps[number - 1]):
                sleeper = stage.stop(after=number)
                stage.restart()
                rows, sends, stored = stage.snapshot(), stage.sends(), stage.stored()
                stage.life.clock.move(60)  # or what it writes could look like what was written
                stage.wake(sleeper)
                assert stage.snapshot() == rows
                assert stage.stored() == stored
                # It may have been about to ask once more, with the key and bytes that were there before.
                assert set(stage.sends()) == set(sends)
                stage.check()


@on_every_database(WAKING, on_servers=[name for name in WAKING if SCENARIOS[name].main])
def test_a_worker_that_wakes_while_another_has_its_lease_changes_nothing(stages, pauses, database, names):
    for stage, steps in stages(names, database):
        for number in pauses["leased"].between_transactions(database, steps):
            with stage.telling("stopped", number, steps[number - 1]):
                sleeper = stage.stop(after=number)
                context = stage.life.context
                stage.life.clock.move(context.settings.lease + 1)
                rescue_batches(database, context.clock)
                taken_over = lease_due(context)
                rows = stage.snapshot()
                stage.wake(sleeper)
                if taken_over:
                    assert stage.snapshot() == rows
                stage.restart()
                stage.check()


@pytest.mark.django_db(transaction=True)
def test_every_place_that_changes_anything_is_walked_by_a_scenario(stages, walked):
    for stage, steps in stages(SCENARIOS.keys() - walked.keys(), "default"):
        walked[stage.scenario.name] = lines_of(steps)
    lines = set().union(*walked.values())
    missing = [str(site) for site in sites() if not site.is_on(lines)]
    assert not missing, (
        "No scenario kills a process at these places. Add one to tests/crash/scenarios/ (one function with "
        "@scenario whose play comes there), so that dying there is tried out:\n  " + "\n  ".join(missing)
    )
