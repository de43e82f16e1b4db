"""A process of the host beside its workers: it migrates, serves pages, and runs commands.

``python -m tests.hosts.host_process`` reads the name of a step and its arguments from each line of stdin, as JSON. It
answers with a line of JSON that has the result or the traceback.
"""

from __future__ import annotations

import asyncio
import importlib
import io
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.core import checks  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import AsyncClient, Client  # noqa: E402
from django.urls import reverse  # noqa: E402

from evermuse_outbox.messages import task as message_task  # noqa: E402
from evermuse_outbox.models import OutboxRecord  # noqa: E402
from tests.admin.any_admin.walk import Elements, Page, is_of_outbox  # noqa: E402

# Several hosts run at a time, so a message may take longer than usual. `tests/messages` tests the real limit.
message_task.PUBLISH_SECONDS = 30.0

HOST = importlib.import_module(os.environ["DJANGO_SETTINGS_MODULE"])


def migrate() -> None:
    """Create the tables, and a user for the admin. Fail if the models need another migration."""
    call_hook("before_migrate")
    call_command("migrate", verbosity=0)
    call_hook("after_migrate")
    run_command("makemigrations", "evermuse_outbox", "--check", "--dry-run")
    users: Any = get_user_model()
    users.objects.create_superuser(**{users.USERNAME_FIELD: "admin@example.com", "password": "admin"})


def call_hook(name: str, *arguments: Any) -> None:
    """Call a function of the host's file, if it has one of this name."""
    getattr(HOST, name, lambda *_: None)(*arguments)


def check() -> list[tuple[str, str]]:
    """Return the id and the text of each message of ``check --database default`` that is not silenced."""
    messages = checks.run_checks(databases=["default"])
    return [(str(message.id), str(message.msg)) for message in messages if not message.is_silenced()]


def enqueue() -> list[int]:
    """Let a page of the host enqueue a valid and an invalid record. Return their ids."""
    if settings.ENQUEUE_PATH.startswith("/async/"):
        response = asyncio.run(fetch_async(settings.ENQUEUE_PATH))
    else:
        response = Client().get(settings.ENQUEUE_PATH)
    ids: list[int] = json.loads(response.content)["ids"]
    return ids


async def fetch_async(path: str) -> Any:
    """Return the answer of the host's ASGI application."""
    return await AsyncClient().get(path)


def states() -> list[str]:
    """Return the state of each record, in the order of enqueueing."""
    return [row.state for row in OutboxRecord.objects.using("default").select_related("batch").order_by("pk")]


def run_command(*arguments: str) -> str:
    """Run a management command, and return what it prints."""
    output = io.StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue()


def open_pages() -> int:
    """Open the pages of the outbox in the admin, and call ``verify`` of the host. Return their number."""
    client = Client()
    user: Any = get_user_model()
    client.force_login(user.objects.get())
    pages = list(fetch_pages(client))
    assert [page for page in pages if page.status != 200] == []
    call_hook("verify", pages)
    return len(pages)


def fetch_pages(client: Client) -> Iterator[Page]:
    """Yield the index, the overview, each list, and the page of the first row of each list."""
    index = fetch(client, reverse("admin:app_list", args=["evermuse_outbox"]))
    yield index
    for address in sorted(set(filter(is_of_outbox, Elements(index.html).links)) - {index.address}):
        page = fetch(client, address)
        yield page
        rows = (link for link in Elements(page.html).links if link.endswith("/change/"))
        for row in itertools.islice(rows, 1):
            yield fetch(client, urljoin(address, row))


def fetch(client: Client, address: str) -> Page:
    """Open a page."""
    response = client.get(address)
    return Page(address, response.status_code, response.content.decode(), "")


STEPS: dict[str, Callable[..., Any]] = {
    step.__name__: step for step in (migrate, check, enqueue, states, run_command, open_pages)
}


def main() -> None:
    """Run steps until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a step prints goes into the log
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"result": STEPS[name](*arguments)}
        except (Exception, SystemExit):
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
