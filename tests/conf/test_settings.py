"""The typed settings: defaults, workspaces, and when they are read."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from evermuse_outbox.conf import Secret, get_settings
from tests.conf.errors import KEY

ROOT = Path(__file__).resolve().parents[2]


def test_an_empty_dict_gives_the_published_limits(typed):
    settings = typed()
    assert (settings.max_batch_records, settings.max_batch_bytes, settings.max_batch_attachments) == (
        1_000,
        5_000_000,
        1_000,
    )
    default = settings.workspace("default")
    assert (default.api_url, default.contract, default.rate_limit) == (
        "https://api.evermuse.com",
        "reference",
        10.0,
    )
    assert not default.api_key


def test_settings_are_read_late_and_again_after_a_change():
    with override_settings(EVERMUSE_OUTBOX={"LINGER": 7}):
        assert get_settings().linger == 7
        assert get_settings() is get_settings()
        with override_settings(EVERMUSE_OUTBOX={"LINGER": 8}):
            assert get_settings().linger == 8
        assert get_settings().linger == 7
    assert get_settings().linger == 0


def test_settings_are_frozen(typed):
    with pytest.raises(dataclasses.FrozenInstanceError):
        typed().linger = 5


# --- workspaces ---------------------------------------------------------------------------------------


def test_a_workspace_inherits_all_options_except_the_key(typed):
    top = {"API_URL": "https://eu.example.com", "API_KEY": KEY, "CONTRACT": "openapi", "RATE_LIMIT": 5}
    settings = typed(**top, WORKSPACES={"eu": {}, "us": {"API_KEY": "em_sk_us", "RATE_LIMIT": 2}})
    eu, us = settings.workspace("eu"), settings.workspace("us")
    assert (eu.api_url, eu.contract, eu.rate_limit) == ("https://eu.example.com", "openapi", 5.0)
    assert not eu.api_key
    assert (us.api_key.reveal(), us.contract, us.rate_limit) == ("em_sk_us", "openapi", 2.0)
    assert settings.workspace("default").api_key.reveal() == KEY


def test_the_default_workspace_may_be_named_as_well(typed):
    settings = typed(API_KEY=KEY, WORKSPACES={"default": {"CONTRACT": "openapi"}})
    default = settings.workspace("default")
    assert (default.api_key.reveal(), default.contract) == (KEY, "openapi")
    assert typed(API_KEY=KEY, WORKSPACES={"default": {"API_KEY": "b"}}).workspace(
        "default"
    ).api_key == Secret("b")


def test_an_unknown_workspace_is_named_with_the_known_ones(typed):
    with pytest.raises(ImproperlyConfigured, match=r"No workspace 'ue' .* known: default, eu\."):
        typed(API_KEY=KEY, WORKSPACES={"eu": {}}).workspace("ue")


def test_named_workspaces_without_a_key_at_the_top_give_no_default_one(typed):
    assert list(typed(WORKSPACES={"eu": {"API_KEY": KEY}}).workspaces) == ["eu"]
    assert list(typed().workspaces) == ["default"]


# --- import -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["evermuse_outbox", "evermuse_outbox.schedule", "evermuse_outbox.conf"])
def test_importing_reads_no_settings(module):
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    code = f"import {module}\nfrom django.conf import settings\nassert not settings.configured"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=60)
