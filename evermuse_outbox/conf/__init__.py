"""The settings of the host project, read from the dict ``EVERMUSE_OUTBOX``.

This package checks the dict, converts it to typed objects and hides API keys. It reads no setting when it is
imported and knows nothing of the outbox's tables or of delivery. Call :func:`get_settings` for the values and
:func:`find_problems` for every error in the dict; :data:`OPTIONS` lists all settings.
"""

from .documentation import DOCUMENTATION, see_docs
from .keys import KeyFile, KeyUnavailable
from .master_keys import MasterKeysUnavailable, read_present_keys
from .options import OPTIONS, SETTING, WORKSPACE_OPTIONS, Option
from .problems import Problem, find_problems
from .readers import LABEL_NAMES, FairShares, NewestFirst, Retention, Secret, is_label_name, key_bytes
from .settings import (
    MAX_PERMIT_WAIT,
    Settings,
    UnknownWorkspace,
    get_settings,
    get_static_settings,
    reload_workspaces,
)
from .workspace import DEFAULT_WORKSPACE, Workspace
from .workspace_function import find_import_problem

__all__ = [
    "DEFAULT_WORKSPACE",
    "DOCUMENTATION",
    "LABEL_NAMES",
    "MAX_PERMIT_WAIT",
    "OPTIONS",
    "SETTING",
    "WORKSPACE_OPTIONS",
    "FairShares",
    "KeyFile",
    "KeyUnavailable",
    "MasterKeysUnavailable",
    "NewestFirst",
    "Option",
    "Problem",
    "Retention",
    "Secret",
    "Settings",
    "UnknownWorkspace",
    "Workspace",
    "find_import_problem",
    "find_problems",
    "get_settings",
    "get_static_settings",
    "is_label_name",
    "key_bytes",
    "read_present_keys",
    "reload_workspaces",
    "see_docs",
]
