"""django-post_office: a record is the body of a mail, and a mail backend posts it to the API.

It has as many threads as the other contenders have concurrent sends, and batches as large as those of this package.

``send_queued_mail`` ends when no mail is left, and the README runs it by cron. ``python -m
benchmarks.contenders.post_office LOCKFILE`` repeats it ten times a second, so that mails do not wait for the next
minute.
"""

import sys

from django.core.mail.backends.base import BaseEmailBackend

from . import IN_FLIGHT
from .base import *  # noqa: F403
from .base import INSTALLED_APPS, LOGGING
from .http_client import key_of, post_line

INSTALLED_APPS = [*INSTALLED_APPS, "post_office"]
EMAIL_BACKEND = "post_office.EmailBackend"
POST_OFFICE = {
    "BACKENDS": {"default": f"{__name__}.HttpBackend"},
    "THREADS_PER_PROCESS": IN_FLIGHT,
    "BATCH_SIZE": 1_000,
    "MAX_RETRIES": 4,
}
LOGGING = LOGGING | {
    "loggers": {"post_office": {"handlers": ["console"], "level": "WARNING", "propagate": False}}
}


class HttpBackend(BaseEmailBackend):
    """A mail backend that posts records. The subject of a mail is the record's key, the body is the record."""

    def send_messages(self, messages):
        """Post each mail's body, and return the number of mails."""
        for message in messages:
            post_line(message.body, message.subject)
        return len(messages)


def enqueue(record):
    """Enqueue the record in the open transaction."""
    import json

    from post_office import mail

    line = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    mail.send("api@example.com", "host@example.com", subject=key_of(record), message=line)


def main(lockfile, pause=0.1):
    """Send the queued mails again and again, until the process is terminated."""
    import time

    import django
    from django.core.management import call_command

    django.setup()
    while True:
        call_command("send_queued_mail", lockfile=lockfile)
        time.sleep(pause)


if __name__ == "__main__":
    main(sys.argv[1])
