"""Settings for one test."""

from __future__ import annotations

import pytest

from evermuse_outbox.conf import get_settings


@pytest.fixture
def typed(settings):
    """A function that returns the typed settings of exactly these keys."""

    def build(**keys):
        settings.EVERMUSE_OUTBOX = keys
        return get_settings()

    return build
