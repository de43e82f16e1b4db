"""Options about runs and labels, for the commands that make a run or select records by one.

It is a package of its own, because the command of the sandbox runs without models. Its interface is
``add_run_options`` with ``read_run_plan``, ``describe_run``, ``find_run_id`` and ``read_label``.
"""

from .options import add_run_options, describe_run, find_run_id, read_label, read_run_plan

__all__ = ["add_run_options", "describe_run", "find_run_id", "read_label", "read_run_plan"]
