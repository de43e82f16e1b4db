"""What the encryption of stored payloads costs: microseconds and bytes for each record."""

from __future__ import annotations

import argparse
import base64
import json
import os
import time
from collections.abc import Callable
from statistics import median

ROUNDS, RECORDS = 9, 5_000


def main(arguments: list[str]) -> None:
    """Encrypt and decrypt lines of 1 kB, and print the median of several rounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks encryption", description=__doc__)
    parser.add_argument("--size", type=int, default=1_000, help="bytes of a line")
    size = parser.parse_args(arguments).size
    _configure()
    from evermuse_outbox.encryption import DataKey, make_data_key, unwrap_data_key

    key = DataKey(17, unwrap_data_key(make_data_key("default\n"), "default\n"))
    line, identity = json.dumps({"text": "x" * (size - 12)}), "0" * 32
    stored = key.encrypt(line, identity)
    encrypted = _microseconds(lambda: key.encrypt(line, identity))
    decrypted = _microseconds(lambda: key.decrypt(stored, identity))
    print(f"{len(line):,} bytes, {ROUNDS} rounds of {RECORDS:,}, one process, {os.cpu_count()} cores")
    print(f"encrypt  {encrypted:6.2f} µs for each record")
    print(f"decrypt  {decrypted:6.2f} µs for each record")
    print(f"stored   {len(stored):,} bytes: {len(stored) - len(line):,} more")


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
