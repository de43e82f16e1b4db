"""``manage.py outbox_retry``: send rejected records again."""

from __future__ import annotations

from .. import EXIT_CODES
from ..repairs import RepairCommand


class Command(RepairCommand):
    kind, done = "retry", "retried"
    help = (
        "Send rejected records again, after their cause was corrected. The selected records become a job, which this "
        "command executes in chunks of 500. Ctrl-C pauses it. A record with a newer version is refused, because it "
        f"would overwrite that version at Evermuse. {EXIT_CODES}"
    )
    examples = (
        "examples:\n"
        "  manage.py outbox_retry --product prod-7 --dry-run        how many, what it costs, what is refused\n"
        "  manage.py outbox_retry --product prod-7 --reason 'project id corrected'\n"
        "  manage.py outbox_retry --error-code INVALID_RECORD --newer-than 2d --no-input\n"
        "  manage.py outbox_retry 17 18                             two records\n"
        "  manage.py outbox_retry --continue 5                      go on with job 5 after Ctrl-C\n"
    )
