"""awa: a job for each record, stored through its Django bridge, and sent by its worker.

A job's handler gets one job, so each request has one record. The worker is ``python -m benchmarks.contenders.awa``. It
has the settings of awa's own documentation: one queue, as many concurrent jobs as the other contenders, all else at its
default. ``enqueue`` sends a NOTIFY. The worker listens for it, and polls five times a second besides.
"""

import os

from . import IN_FLIGHT
from .base import *  # noqa: F403

QUEUE = "ingest"
KIND = "deliver"


def prepare():
    """Create the tables, and start a worker once.

    The first worker switches a new database to the storage engine that awa recommends. Jobs that were enqueued before
    would use its former engine.
    """
    import asyncio

    import awa

    awa.Client(os.environ["DATABASE_URL"]).migrate()
    asyncio.run(_run_worker(lambda: asyncio.sleep(0)))


def enqueue(record):
    """Enqueue the record in the open transaction."""
    from awa.bridge import insert_job_sync
    from django.db import connection

    insert_job_sync(connection, record, kind=KIND, queue=QUEUE)


async def _run_worker(wait):
    """Run a worker until ``wait()`` returns. Jobs run in threads, because the HTTP client blocks."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    import awa

    from .http_client import post

    client = awa.AsyncClient(os.environ["DATABASE_URL"])
    threads = ThreadPoolExecutor(IN_FLIGHT)

    @client.task(dict, kind=KIND, queue=QUEUE)
    async def deliver(job):
        await asyncio.get_running_loop().run_in_executor(threads, post, job.args)

    await client.start([(QUEUE, IN_FLIGHT)])
    await wait()
    await client.shutdown()


def main():
    """Run a worker until the process gets SIGTERM."""
    import asyncio
    import signal

    async def run():
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        await _run_worker(stopped.wait)

    asyncio.run(run())


if __name__ == "__main__":
    main()
