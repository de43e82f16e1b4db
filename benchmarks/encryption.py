"""What the encryption of a stored payload costs, in CPU time and in bytes."""

from __future__ import annotations

import argparse
import base64
import json
import os
import time
from collections.abc import Callable
from statistics import median

from .common.options import parser_of
from .common.report import Report

ROUNDS, RECORDS = 9, 5_000


def main(arguments: list[str]) -> None:
    """Encrypt and decrypt lines, and report the median of several rounds."""
    options = _options(arguments)
    size = options.size
    _configure()
    from evermuse_outbox.encryption import DataKey, make_data_key, unwrap_data_key

    key = DataKey(17, unwrap_data_key(make_data_key("default\n"), "default\n"))
    line, identity = json.dumps({"text": "x" * (size - 12)}), "0" * 32
    stored = key.encrypt(line, identity)
    encrypted = _microseconds(lambda: key.encrypt(line, identity))
    decrypted = _microseconds(lambda: key.decrypt(stored, identity))
    report = Report(options.name, vars(options))
    rows = [
        ["encrypt", f"{encrypted:.2f} µs"],
        ["decrypt", f"{decrypted:.2f} µs"],
        ["stored", f"{len(stored):,} bytes, {len(stored) - len(line):,} more"],
    ]
    report.table(f"One record of {len(line):,} bytes", ["", "cost"], rows)
    report.save()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = parser_of("encryption", __doc__)
    parser.add_argument("--size", type=int, default=1_000, help="bytes of a line (default: 1000)")
    return parser.parse_args(arguments)


def _configure() -> None:
    from django.conf import settings

    key = base64.b64encode(os.urandom(32)).decode()
    settings.configure(EVERMUSE_OUTBOX={"API_KEY": "em_sk_sandbox", "ENCRYPTION_KEYS": [key]})


def _microseconds(function: Callable[[], object]) -> float:
    """Return the median CPU time of a call, so that other processes matter little."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(RECORDS):
            function()
        rounds.append(time.process_time() - started)
    return median(rounds) / RECORDS * 1e6
