"""The version of the package. All other files read it from here."""

VERSION = "0.1.0"

SCHEMA = 18
"""Number of the newest migration that this code knows."""

WORKER_VERSION = f"{VERSION}+{SCHEMA}"
"""What a heartbeat stores. The version before had no number of a migration."""
