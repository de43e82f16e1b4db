"""The errors that the settings report."""

from __future__ import annotations

from evermuse_outbox.conf import find_problems

KEY = "em_sk_a_key_that_no_message_may_show"


def errors_in(**keys):
    """Return the errors in a settings dict as texts."""
    return [str(problem) for problem in find_problems(keys)]
