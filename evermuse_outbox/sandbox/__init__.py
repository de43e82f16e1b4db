"""Evermuse on localhost: the ingestion API, written from its published contract alone.

It serves the demo, the tests of this package and the developers of a host. It imports nothing else of
the package, so that it can disagree with the package's client; and it is strict: what the contract
forbids is refused with the documented status.

    with Sandbox(contract="openapi") as sandbox:
        requests.post(f"{sandbox.url}/api/v1/ingest", headers={"x-api-key": DEFAULT_KEY}, json=[...])
        assert sandbox.records()[0].times == 1

Record validation needs the extra ``evermuse-outbox[sandbox]``.
"""

from .api import Arrival
from .contract import SandboxUnavailable
from .faults import Fault
from .sandbox import DEFAULT_KEY, Sandbox
from .store import ApiKey, Batch, Identity, StoredRecord

__all__ = [
    "DEFAULT_KEY",
    "ApiKey",
    "Arrival",
    "Batch",
    "Fault",
    "Identity",
    "Sandbox",
    "SandboxUnavailable",
    "StoredRecord",
]
