"""Check the model, with and without each of its rules: ``python -m docs.model``. ``--large`` visits more states."""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm

from .checker import Result, check
from .protocol import Protocol

SMALL = {
    "two versions, one sender": Protocol((0, 0), senders=1),
    "two versions, two senders": Protocol((0, 0)),
    "three versions, one sender": Protocol((0, 0, 0), senders=1),
    "two records in a batch, one is refused": Protocol((0, 1), refused=frozenset({0}), senders=1),
}
LARGE = SMALL | {
    "two versions beside another record": Protocol((0, 0, 1), senders=1),
    "two versions, the newer one is refused": Protocol((0, 0), refused=frozenset({1})),
    "two records in a batch, one is refused, two senders": Protocol((0, 1), refused=frozenset({0})),
}


def main() -> int:
    """Check all configurations, then each rule. Return 0 if all is as expected."""
    parser = argparse.ArgumentParser(prog="python -m docs.model", description=__doc__)
    parser.add_argument(
        "--large", action="store_true", help="check larger configurations, too (some minutes)"
    )
    options = parser.parse_args()
    is_good = True
    for title, protocol in (LARGE if options.large else SMALL).items():
        result = _check(title, protocol)
        print(f"{title}: {result.states:,} states, {result.steps:,} steps: {_verdict(result)}", flush=True)
        is_good &= not result.violations
    for rule in sorted(Protocol.RULES):
        result = _check(rule, Protocol((0, 0), senders=1, without=frozenset({rule})))
        print(f"\nwithout the rule “{rule}”: {_verdict(result)}")
        for action in result.trace:
            print(f"    {action}")
        is_good &= bool(result.violations)
    return 0 if is_good else 1


def _check(title: str, protocol: Protocol) -> Result:
    with tqdm(desc=title, unit=" states", leave=False, disable=None) as bar:
        return check(protocol, lambda states: bar.update(states - bar.n))


def _verdict(result: Result) -> str:
    return "; ".join(result.violations) or "every property holds"


if __name__ == "__main__":
    sys.exit(main())
