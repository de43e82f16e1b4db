"""Settings that name a label accept only names that a record can have."""

from __future__ import annotations

import pytest

from evermuse_outbox.conf import LABEL_NAMES, find_problems

NOT_A_NAME = "name of a label"


def _problems(**settings):
    return [f"{problem}" for problem in find_problems({"API_KEY": "em_sk_x", **settings})]


@pytest.mark.parametrize("name", ["METRICS_LABEL", "ENCRYPTION_LABEL"])
@pytest.mark.parametrize("value", ["a b", "1a", "a" * 65, "a=b"])
def test_the_name_of_a_label(name, value):
    (problem,) = _problems(**{name: value})
    assert NOT_A_NAME in problem
    assert LABEL_NAMES in problem


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ({"FAIR_SHARES": {"label": "a b"}}, [NOT_A_NAME]),
        (
            {"FAIR_SHARES": {"label": "a", "weights": {"b": 0}}},
            ["0 is not a number from 0.01 to 1,000.", "Use for"],
        ),
        (
            {"NEWEST_FIRST": {"after": 5, "backlog_share": 2}},
            ["2 is not a number from 0.01 to 0.99.", "Use for"],
        ),
    ],
)
def test_an_error_of_the_order_inside_a_group_shows_an_example(settings, texts):
    (problem,) = _problems(**settings)
    assert all(text in problem for text in texts)
