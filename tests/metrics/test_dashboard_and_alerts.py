"""The dashboard and the alert rules name only metrics and labels that exist, and each alert has its runbook."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from evermuse_outbox import metrics
from evermuse_outbox.metrics import METRICS
from evermuse_outbox.metrics.figures import OPEN_STATES, OPERATION_STATES
from evermuse_outbox.models import IncidentKind, WorkspaceState

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(metrics.__file__).parent / "prometheus"
RUNBOOKS = ROOT / "docs" / "how-to" / "runbooks"
SECTIONS = ["Symptom", "What it means", "What to look at", "What to do", "How it ends"]

DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
(GROUP,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"]}
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}

EXPRESSIONS = {
    **{name: rule["expr"] for name, rule in ALERTS.items()},
    **{
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    },
    **{name: variable["definition"] for name, variable in VARIABLES.items() if variable["type"] == "query"},
}

VALUES = {
    ("evermuse_outbox_workspace_state", "state"): {state.value for state in WorkspaceState},
    ("evermuse_outbox_batches", "state"): {state.value for state in OPEN_STATES},
    ("evermuse_outbox_operations", "state"): {state.value for state in OPERATION_STATES},
    ("evermuse_outbox_open_incidents", "kind"): {kind.value for kind in IncidentKind},
    ("evermuse_outbox_attachments", "state"): {"in_progress", "failed"},
}
"""The values that a label has."""


def selectors(expression):
    """Yield each metric of an expression with its label matchers."""
    for name, braces in re.findall(r"\b(evermuse_outbox_\w+)(?:\{([^}]*)\})?", expression):
        yield name, re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"", braces)


def labels_of_groupings(expression):
    return {
        label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(",")
    }


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_names_metrics_labels_and_values_that_exist(name):
    expression = EXPRESSIONS[name]
    used = list(selectors(expression))
    assert used
    known = set()
    for metric, matchers in used:
        assert metric in METRICS
        known |= set(METRICS[metric].labels)
        for label, value in matchers:
            assert label in METRICS[metric].labels, f"{metric} has no label {label}"
            if not value.startswith("$"):
                assert set(value.split("|")) <= VALUES[metric, label]
    assert labels_of_groupings(expression) <= known
    assert expression.count("(") == expression.count(")")
    # A counter is useful only as a rate; a gauge has none.
    for metric, _ in used:
        assert (METRICS[metric].kind == "counter") == ("rate(" in expression)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_figures_of_several_targets_are_not_added(name):
    expression = EXPRESSIONS[name]
    if expression.startswith("sum"):
        assert re.match(r"sum by \([^)]*\) \(max by \(", expression)
    elif not expression.startswith(("label_values(", "absent(")):
        assert expression.startswith("max by (")


def test_every_metric_is_on_the_dashboard_or_in_an_alert():
    used = {metric for expression in EXPRESSIONS.values() for metric, _ in selectors(expression)}
    described = " ".join(panel["description"] for panel in DASHBOARD["panels"])
    missing = {
        name
        for name in METRICS
        if name not in used and name.removeprefix("evermuse_outbox_") not in described
    }
    assert missing == {"evermuse_outbox_workspace_failures", "evermuse_outbox_pending_groups"}


def test_the_panels_do_not_overlap_and_have_unique_ids():
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_variables_of_the_dashboard_exist():
    used = set(re.findall(r"\$\{?([a-z]+)\}?", json.dumps(DASHBOARD["panels"])))
    assert used <= set(VARIABLES)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_what_prometheus_and_people_need(name):
    rule = ALERTS[name]
    assert re.fullmatch(r"EvermuseOutbox([A-Z][a-z]+)+", name)
    assert re.fullmatch(r"\d+[smh]", str(rule["for"]))
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    summary, expression = rule["annotations"]["summary"], rule["expr"]
    assert set(re.findall(r"\$labels\.(\w+)", summary)) <= labels_of_groupings(expression)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_its_runbook(name):
    words = re.findall(r"[A-Z][a-z]+", name.removeprefix("EvermuseOutbox"))
    slug = "-".join(words).lower()
    assert ALERTS[name]["annotations"]["runbook_url"].endswith(f"/how-to/runbooks/{slug}.html")
    page = (RUNBOOKS / f"{slug}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS
    assert f"`{name}`" in page
    assert f"| `{name}` |" in (RUNBOOKS / "index.md").read_text(encoding="utf-8")


def test_every_runbook_has_its_alert():
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"}
    assert len(pages) == len(ALERTS)
