"""A process that is killed, or paused, at any step of the pipeline: afterwards everything ends where it should.

The steps are not listed here. Each scenario of ``tests/crash/scenarios.py`` is played once to see them; then
it is played again for each step, by a process that kills itself right after it.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from django.conf import settings as project
from django.db import connections

from evermuse_outbox.pipeline.maintain import rescue
from evermuse_outbox.pipeline.send import lease_due
from tests.crash.nursery import Nursery
from tests.crash.points import Points
from tests.crash.scenarios import SCENARIOS
from tests.crash.sites import sites
from tests.crash.stage import Stage

pytestmark = [pytest.mark.commits, pytest.mark.long]


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
def staged(nursery, tmp_path):
    """Opens the stage of a scenario on a database."""

    def at(name, alias):
        return Stage(SCENARIOS[name], alias, nursery, str(tmp_path / "clock")).open()

    return at


def lines_of(steps):
    return {line for step in steps for line in step.lines}


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_after_any_step(staged, alias, points, walked, name):
    with staged(name, alias) as stage:
        steps = stage.play()
        walked[name] = lines_of(steps)
        stage.restart()
        stage.check()
        for number in points.of(stage.scenario, alias, steps):
            with stage.telling("killed", number, steps[number - 1]):
                stage.kill(after=number)
                stage.restart()
                stage.check()


WAKING = [name for name, scenario in SCENARIOS.items() if scenario.wakes]


@pytest.mark.parametrize("name", WAKING)
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_wakes_when_all_is_over_changes_nothing(staged, pauses, name):
    with staged(name, "default") as stage:
        steps = stage.play()
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


@pytest.mark.parametrize("name", WAKING)
def test_a_worker_that_wakes_while_another_has_its_lease_changes_nothing(staged, alias, pauses, name):
    with staged(name, alias) as stage:
        steps = stage.play()
        for number in pauses["leased"].between_transactions(alias, steps):
            with stage.telling("stopped", number, steps[number - 1]):
                sleeper = stage.stop(after=number)
                channel = stage.life.channel
                stage.life.clock.move(channel.settings.lease + 1)
                rescue(alias, channel.clock)
                taken_over = lease_due(channel)
                rows = stage.snapshot()
                stage.wake(sleeper)
                if taken_over:
                    assert stage.snapshot() == rows
                stage.restart()
                stage.check()


@pytest.mark.django_db(transaction=True)
def test_every_place_that_changes_anything_is_walked_by_a_scenario(staged, walked):
    for name in SCENARIOS.keys() - walked.keys():
        with staged(name, "default") as stage:
            walked[name] = lines_of(stage.play())
    lines = set().union(*walked.values())
    missing = [str(site) for site in sites() if not site.is_on(lines)]
    assert not missing, (
        "No scenario kills a process at these places. Add one to tests/crash/scenarios.py (one function with "
        "@scenario whose play comes there), so that dying there is tried out:\n  " + "\n  ".join(missing)
    )
