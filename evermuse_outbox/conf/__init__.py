"""The settings of the host project, read from the dict ``EVERMUSE_OUTBOX``.

This package checks the dict, converts it to typed objects and hides API keys. It reads no setting when it is
imported and knows nothing of the database or of delivery. Call :func:`get_settings` for the values and
:func:`find_problems` for every error in the dict; :data:`OPTIONS` lists all settings.
"""

from .documentation import DOCUMENTATION, see_docs
from .keys import KeyFile, KeyUnavailable
from .options import OPTIONS, SETTING, WORKSPACE_OPTIONS, Option
from .problems import Problem, find_problems
from .retention import Retention
from .secret import Secret
from .settings import (
    DEFAULT_WORKSPACE,
    MAX_PERMIT_WAIT,
    Settings,
    Workspace,
    get_settings,
)

__all__ = [
    "DEFAULT_WORKSPACE",
    "DOCUMENTATION",
    "MAX_PERMIT_WAIT",
    "OPTIONS",
    "SETTING",
    "WORKSPACE_OPTIONS",
    "KeyFile",
    "KeyUnavailable",
    "Option",
    "Problem",
    "Retention",
    "Secret",
    "Settings",
    "Workspace",
    "find_problems",
    "get_settings",
    "see_docs",
]
