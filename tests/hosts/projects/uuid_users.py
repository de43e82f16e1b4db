"""Users with UUIDs for keys, and with a mail address in place of a user name."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import INSTALLED_APPS

NEEDS = ["postgres"]

INSTALLED_APPS = [*INSTALLED_APPS, "tests.hosts.accounts"]
AUTH_USER_MODEL = "accounts.Account"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"


def verify(pages):
    """Search in each list, and pause the workspace by a form, which logs the user."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    from evermuse_outbox.models import OutboxAction
    from tests.admin.any_admin.walk import submit_forms

    client = Client()
    client.force_login(get_user_model().objects.get())
    lists = [page.address for page in pages if not page.address.endswith("/change/")]
    assert [address for address in lists if client.get(address, {"q": "x"}).status_code >= 400] == []
    submitted = list(submit_forms(client, [page for page in pages if "/outboxworkspace/" in page.address]))
    assert [page for page in submitted if page.status >= 400] == []
    assert "admin@example.com" in OutboxAction.objects.values_list("by", flat=True)
