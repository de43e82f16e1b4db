"""What people see of the API keys of a workspace: the beginning of a fingerprint, and the place in the settings."""

from __future__ import annotations

import pytest

from evermuse_outbox.conf import get_settings
from evermuse_outbox.insight import list_keys


def _names(keys: dict[str, str]) -> list[str]:
    return [shown.partition(" ")[2] for shown in keys.values()]


@pytest.mark.parametrize(
    ("further", "places"),
    [
        ([], []),
        (["em_sk_b"], ["(API_KEY)", "(API_KEYS[0])"]),
        (["em_sk_a", "em_sk_b"], ["(API_KEY)", "(API_KEYS[1])"]),  # equal keys count once
        (["/no/such/file", "em_sk_b"], ["(API_KEY)", "(API_KEYS[1])"]),
    ],
)
def test_a_key_is_named_by_its_place(settings, tmp_path, further, places):
    keys = [tmp_path / "missing" if key.startswith("/") else key for key in further]
    settings.EVERMUSE_OUTBOX = {
        "API_URL": "http://127.0.0.1:8787", "API_KEY": "em_sk_a", "API_KEYS": keys,
    }  # fmt: skip
    shown = list_keys("default")
    assert _names(shown) == places
    assert all(text.startswith(fingerprint[:8]) for fingerprint, text in shown.items())
    assert len(get_settings().workspace("default").with_keys()) == max(len(places), 1)


def test_an_unknown_workspace_has_no_keys():
    assert list_keys("removed") == {}
