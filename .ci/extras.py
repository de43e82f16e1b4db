"""Run in an environment with the package and only some of its extras: everything imports, and what is missing is named.

python extras.py [EXTRA …]      # the extras that are installed
"""

import importlib
import importlib.util
import io
import pkgutil
import sys

import django
from django.conf import settings
from django.core.management import CommandError, call_command

MODULES = {
    "sandbox": "jsonschema_rs",
    "prometheus": "prometheus_client",
    "opentelemetry": "opentelemetry",
    "encryption": "cryptography",
}
"""Extra → the module that it installs."""

FOR_ANOTHER_PACKAGE = {
    "evermuse_outbox.pytest_plugin": "pytest",
    "evermuse_outbox.health.django_health_check": "health_check",
}
"""Modules that extend another package, which a host names in its own requirements."""

installed = set(sys.argv[1:])
for extra, module in MODULES.items():
    is_there = importlib.util.find_spec(module) is not None
    assert is_there == (extra in installed), f"{module}: {is_there}"

settings.configure(
    SECRET_KEY="x",
    USE_TZ=True,
    ROOT_URLCONF="evermuse_outbox.version",
    INSTALLED_APPS=[
        *("django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes"),
        *("django.contrib.sessions", "django.contrib.messages", "evermuse_outbox"),
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    EVERMUSE_OUTBOX={"API_KEY": "em_sk_test", "WAKE_ON_COMMIT": False},
)
django.setup()

import evermuse_outbox  # noqa: E402

errors = []
names = [module.name for module in pkgutil.walk_packages(evermuse_outbox.__path__, "evermuse_outbox.")]
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if error.name != FOR_ANOTHER_PACKAGE.get(name):
            errors.append(f"{name}: {error}")
assert not errors, "\n".join(errors)

if "sandbox" not in installed:
    try:
        call_command("evermuse_sandbox", "--port", "0")
        raise SystemExit("the sandbox runs without its extra")
    except CommandError as error:
        assert "evermuse-outbox[sandbox]" in str(error), error

if "prometheus" not in installed:
    from django.core.exceptions import ImproperlyConfigured

    from evermuse_outbox.metrics import expose

    try:
        expose()
        raise SystemExit("the metrics work without their extra")
    except ImproperlyConfigured as error:
        assert "evermuse-outbox[prometheus]" in str(error), error

call_command("migrate", verbosity=0)
call_command("outbox_status", stdout=io.StringIO())
print(f"{len(names)} modules import with these extras: {', '.join(sorted(installed)) or 'none'}")
