"""Crash tests: a real process is killed after each of its steps, which are recorded and not listed."""

import pytest

pytest.register_assert_rewrite("tests.crash.scenario_run", "tests.crash.scenarios", "tests.crash.environment")
