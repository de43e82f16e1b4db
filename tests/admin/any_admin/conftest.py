"""An admin with rows in every state."""

from __future__ import annotations

import pytest

from .every_state import WORKSPACES, create_rows


@pytest.fixture
def every_state(db, outbox_settings):
    """Create rows in every state, in several workspaces."""
    outbox_settings(WORKSPACES=WORKSPACES)
    create_rows()
