"""The options of ``evermuse_sandbox``, and how their values are read."""

from __future__ import annotations

import argparse
from pathlib import Path

from django.core.management.base import CommandError, CommandParser


def add_options(parser: CommandParser, default_key: str) -> None:
    """Add all options. ``default_key`` is the API key that is accepted without ``--key``."""
    add_server_arguments(parser)
    add_api_arguments(parser, default_key)
    add_failure_arguments(parser)
    add_control_arguments(parser)


def add_server_arguments(parser: CommandParser) -> None:
    """Add the options about the server and its output."""
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    group.add_argument(
        "--port", type=int, default=8787, help="port to listen on, 0 for any free port (default: %(default)s)"
    )
    group.add_argument(
        "--allow-host",
        action="append",
        dest="allowed_hosts",
        metavar="NAME",
        help="name in the Host header to accept beside those of this machine, may be repeated",
    )
    group.add_argument("--quiet", action="store_true", help="print no line for each request")
    group.add_argument(
        "--keep-requests",
        type=positive_integer,
        default=2_000,
        metavar="N",
        help="POSTs, and reads, that the page keeps (default: %(default)s of each)",
    )
    group.add_argument(
        "--keep-megabytes",
        type=positive_integer,
        default=64,
        metavar="N",
        help="megabytes of requests that the page keeps (default: %(default)s)",
    )


def add_api_arguments(parser: CommandParser, default_key: str) -> None:
    """Add the options about the API and its limits."""
    group = parser.add_argument_group("API")
    group.add_argument(
        "--contract",
        choices=["reference", "openapi"],
        default="reference",
        help="published contract to apply (default: %(default)s)",
    )
    group.add_argument(
        "--key",
        action="append",
        dest="keys",
        metavar="KEY",
        help=f"API key to accept, may be repeated (default: {default_key})",
    )
    group.add_argument(
        "--key-file",
        action="append",
        dest="key_files",
        metavar="PATH",
        help="file with an API key to accept, such as a secret of a container, may be repeated",
    )
    for name, subject in (("listing", "the listing of batches"), ("idempotency", "idempotency keys")):
        group.add_argument(
            f"--{name}-scope",
            choices=["workspace", "key"],
            help=f"what has {subject} of its own: each workspace (default) or each API key",
        )
    group.add_argument(
        "--rate-limit",
        type=positive_integer,
        default=10,
        metavar="N",
        help="maximum requests of one API key in any second (default: %(default)s)",
    )
    group.add_argument(
        "--batch-seconds",
        type=seconds,
        default=2.0,
        metavar="SECONDS",
        help="seconds until a batch is COMPLETE (default: %(default)s)",
    )


def add_failure_arguments(parser: CommandParser) -> None:
    """Add the options about injected faults and invalid records."""
    group = parser.add_argument_group("failures")
    group.add_argument(
        "--fail",
        type=percentage,
        metavar="PERCENT",
        help="share of the requests that meet a random fault, 0 to 100 (default: none)",
    )
    group.add_argument(
        "--fault",
        nargs="+",
        action="append",
        dest="faults",
        metavar="FIELD=VALUE",
        help="inject a fault, may be repeated; the fields are listed below",
    )
    group.add_argument(
        "--errors-in",
        choices=["details", "errors", "nowhere"],
        default="details",
        help="field of the error response that names the invalid records (default: %(default)s)",
    )
    group.add_argument(
        "--strict", action="store_true", help="refuse a request if one of its records is invalid"
    )


def add_control_arguments(parser: CommandParser) -> None:
    """Add the options about the control of a sandbox that runs."""
    group = parser.add_argument_group("control")
    group.add_argument(
        "--to",
        metavar="URL",
        help="control the sandbox at this address with --fault, --fail, --clear-faults, --refuse-keys and the scopes",
    )
    group.add_argument("--clear-faults", action="store_true", help="with --to: remove all faults first")
    group.add_argument(
        "--refuse-keys",
        type=positive_integer,
        nargs="*",
        metavar="N",
        help="with --to: answer 401 to the N-th --key, and accept the others again; without N, accept all",
    )
    group.add_argument(
        "--control-token-file",
        metavar="PATH",
        help="file with the token that the page and --to need; a random one if --host is not the loopback address",
    )


def read_secret(path: str | None) -> str:
    """Return the content of a file without white space at its ends, or an empty text without a path.

    Raises:
        CommandError: The file cannot be read, or it is empty.
    """
    if path is None:
        return ""
    try:
        secret = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"Cannot read {path}: {error.__class__.__name__}") from error
    if not secret:
        raise CommandError(f"{path} is empty: write the secret into it.")
    return secret


def positive_integer(text: str) -> int:
    """Parse an integer of 1 or more from the command line."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be an integer of 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """Parse a duration of 0 to 86,400 seconds (a day) from the command line."""
    return parse_number(text, 0, 86_400)


def percentage(text: str) -> float:
    """Parse a percentage from 0 to 100 from the command line."""
    return parse_number(text, 0, 100)


def parse_number(text: str, low: float, high: float) -> float:
    """Parse a number from ``low`` to ``high`` from the command line.

    Raises:
        ArgumentTypeError: The text is not such a number.
    """
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"must be a number from {low} to {high}")
    return number
