"""The exit statuses of the commands that repair."""

from __future__ import annotations

DONE = 0
"""Everything that was selected is done, or nothing was selected."""

ERROR = 1
"""An error: the database or the settings, a question answered with no, or an interruption."""

USAGE = 2
"""The options contradict each other, or select nothing that exists; argparse uses the same number."""

REFUSED = 3
"""The job is finished, and some records were refused or have failed. The output says which and why."""

EXIT_CODES = (
    "The exit status is 0 if all is done, 1 after an error or interruption, 2 for wrong options, and 3 if records were "
    "refused."
)
"""The last sentence of the help of these commands."""
