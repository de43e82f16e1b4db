"""Settings of the example project.

Values that differ between machines come from environment variables, or from a file ``.env`` beside
``manage.py``. A variable such as ``SECRET_KEY_FILE`` names a file that contains the value, for secrets of containers.
Without any of them the project needs no server: it uses SQLite, a Celery broker that stores messages as files, and
the local Evermuse API of ``manage.py evermuse_sandbox``.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import environ

from evermuse_outbox.schedule import beat_schedule

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()
environ.FileAwareEnv.read_env(BASE_DIR / ".env")

VAR_DIR = Path(env.str("EXAMPLE_VAR_DIR", default=str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True)

SECRET_KEY = env.str("SECRET_KEY", default="only-for-the-example-project")
DEBUG = env.bool("DEBUG", default=True)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]", "testserver"])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "evermuse_outbox",
    "example_project.support",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    # Without DEBUG, Django does not serve the files of the admin.
    *(["whitenoise.middleware.WhiteNoiseMiddleware"] if not DEBUG and find_spec("whitenoise") else []),
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def database(url_name: str, default: str) -> dict[str, Any]:
    """Return the ``DATABASES`` entry for the URL in an environment variable.

    Adds the options that each database needs when several processes write to it.
    """
    config: dict[str, Any] = env.db_url(url_name, default=default)
    if config["ENGINE"].endswith("sqlite3"):
        # In WAL mode readers do not block the writer. An IMMEDIATE transaction takes the write lock at its
        # start, where SQLite waits for the lock. Later in a transaction it would fail without waiting.
        config["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,  # seconds to wait for the write lock
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    elif config["ENGINE"].endswith("mysql"):
        try:
            import MySQLdb  # noqa: F401
        except ImportError:
            import pymysql

            # Django refuses old versions of mysqlclient, so PyMySQL reports the version that it emulates.
            pymysql.version_info = (2, 2, 7, "final", 0)
            pymysql.install_as_MySQLdb()
        config["OPTIONS"] = {"charset": "utf8mb4"}
    return config


def with_password(config: dict[str, Any]) -> dict[str, Any]:
    """Return ``config`` with ``DATABASE_PASSWORD``, if it is set. Then the password is in no URL."""
    password = env.str("DATABASE_PASSWORD", default="").strip()
    return config | ({"PASSWORD": password} if password else {})


DATABASES = {
    "default": with_password(database("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'example.sqlite3'}"))
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True

# --- Celery -----------------------------------------------------------------------------------

REDIS_URL = env.str("REDIS_URL", default="")
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", default=REDIS_URL or "filesystem://localhost")
CELERY_TASK_DEFAULT_QUEUE = env.str("CELERY_TASK_DEFAULT_QUEUE", default="celery")
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # a busy worker must not reserve messages that an idle worker could run
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULE = beat_schedule()
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celerybeat-schedule")
if CELERY_BROKER_URL.startswith("filesystem:"):
    # Messages are files, so no broker server is needed. This transport works only with the pools
    # "threads" and "solo".
    _messages = VAR_DIR / "broker"
    for _name in ("queue", "control", "processed"):
        (_messages / _name).mkdir(parents=True, exist_ok=True)
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_messages / "queue"),
        "data_folder_out": str(_messages / "queue"),
        "control_folder": str(_messages / "control"),
        "processed_folder": str(_messages / "processed"),
        "polling_interval": 0.1,  # seconds
    }
    CELERY_WORKER_POOL = "threads"
    CELERY_WORKER_CONCURRENCY = 4

# --- Evermuse ---------------------------------------------------------------------------------

# The outbox reads a file again while it runs, so a new key needs no restart.
API_KEY_FILE = env.str("EVERMUSE_API_KEY_FILE", default="")
API_KEY = (
    {"API_KEY_FILE": API_KEY_FILE}
    if API_KEY_FILE
    else {"API_KEY": env.str("EVERMUSE_API_KEY", default="em_sk_sandbox")}
)

EVERMUSE_OUTBOX = {
    **API_KEY,
    "API_URL": env.str("EVERMUSE_API_URL", default="http://127.0.0.1:8787"),
    "CONTRACT": env.str("EVERMUSE_CONTRACT", default="reference"),
    "REDIS_URL": REDIS_URL,
}

# The product and project that the records belong to. A real project copies both ids from its Evermuse dashboard.
EVERMUSE_PRODUCT_ID = env.str("EVERMUSE_PRODUCT_ID", default="prod-support")
EVERMUSE_PROJECT_ID = env.str("EVERMUSE_PROJECT_ID", default="proj-support")

# Mail addresses at this domain belong to the support desk, not to customers.
SUPPORT_DOMAIN = env.str("SUPPORT_DOMAIN", default="support.example.com")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
