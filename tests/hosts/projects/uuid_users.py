"""Users with UUIDs for keys, and with a mail address in place of a user name."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import INSTALLED_APPS

NEEDS = ["postgres"]

INSTALLED_APPS = [*INSTALLED_APPS, "tests.hosts.accounts"]
AUTH_USER_MODEL = "accounts.Account"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
