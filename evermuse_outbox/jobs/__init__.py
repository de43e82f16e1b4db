"""Jobs: one operation on any number of rows, executed in chunks by the workers.

A job is a row of ``OutboxOperation``. :func:`create` inserts it, :func:`collect` fixes its members and checks them,
and :func:`confirm` starts it. The workers execute it with :func:`run_operations`: nothing runs in a request.

::

    job = jobs.create("default", "retry", by="anna", reason="the project id is corrected", selection="product 7")
    while not jobs.collect(job, select_records("default", product_id="7", state="rejected")):
        pass
    jobs.confirm(job)

This package makes no request to Evermuse. Each kind of job is a class below :class:`Kind`; :func:`register` adds one.
The class :class:`Refusal` says why a member is not changed. :func:`estimate` tells what a job costs.
"""

from . import batches, encrypt, records
from .collect import collect, create
from .control import cancel, confirm, pause, proceed
from .encrypt import rotation_options
from .estimate import Estimate, estimate
from .fix import Example, preview_fix
from .kinds import Kind, Options, Refusal, Refusals, get_kind, kinds, register
from .run import has_running_job, run_chunk, run_operations

__all__ = [
    "Estimate",
    "Example",
    "Kind",
    "Options",
    "Refusal",
    "Refusals",
    "batches",
    "cancel",
    "collect",
    "confirm",
    "create",
    "encrypt",
    "estimate",
    "get_kind",
    "has_running_job",
    "kinds",
    "pause",
    "preview_fix",
    "proceed",
    "records",
    "register",
    "rotation_options",
    "run_chunk",
    "run_operations",
]
