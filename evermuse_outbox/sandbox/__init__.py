"""Serve the Evermuse ingestion API on localhost, written from the published contract alone.

The package is for the demo, for tests and for the developers of a host. It must not import anything else of
``evermuse_outbox``: a wrong limit in the client would otherwise be wrong here, too, and no test would fail. It is
strict: a request that breaks the contract gets the documented error status. Its public interface is :class:`Sandbox`,
with :class:`Fault` to inject failures, and the classes of the objects that it returns.

::

    with Sandbox(contract="openapi") as sandbox:
        requests.post(f"{sandbox.url}/api/v1/ingest", headers={"x-api-key": DEFAULT_KEY}, json=[...])
        assert sandbox.records()[0].times == 1

The extra ``evermuse-outbox[sandbox]`` is required to validate records.
"""

from .api import Arrival
from .contract import SandboxUnavailable
from .faults import (
    Fault,
    FaultError,
    FaultRequest,
    RecordSelector,
    ScriptedFault,
    fault_from_json,
    fault_from_text,
    text_to_json,
)
from .sandbox import DEFAULT_KEY, Sandbox, create_monotonic_clock
from .store import ApiKey, Batch, Identity, StoredRecord

__all__ = [
    "DEFAULT_KEY",
    "ApiKey",
    "Arrival",
    "Batch",
    "Fault",
    "FaultError",
    "FaultRequest",
    "Identity",
    "RecordSelector",
    "Sandbox",
    "SandboxUnavailable",
    "ScriptedFault",
    "StoredRecord",
    "create_monotonic_clock",
    "fault_from_json",
    "fault_from_text",
    "text_to_json",
]
