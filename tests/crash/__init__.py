"""Crash points: processes that really die, at steps that are found and not listed."""

import pytest

pytest.register_assert_rewrite("tests.crash.scenario_run", "tests.crash.scenarios", "tests.crash.environment")
