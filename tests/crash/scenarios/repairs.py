"""Jobs and holds: a chunk is done in full, with its counts and its manual action, or not at all."""

from __future__ import annotations

from datetime import timedelta

from evermuse_outbox import jobs, operations, outbox
from evermuse_outbox.jobs.collect import LIST
from evermuse_outbox.jobs.records import Retry
from evermuse_outbox.models import (
    BatchState,
    Decision,
    OperationState,
    OutboxAction,
    OutboxBatch,
    OutboxGroup,
    OutboxOperation,
    OutboxRecord,
    OutboxRejection,
    OutboxRun,
    OutboxWorkspace,
)
from evermuse_outbox.sandbox import Fault
from tests.records import record

from ..environment import Environment
from ..scenario import scenario
from .by_hand import prepare_isolating

GROUP = ("message", "prod-abc")


@jobs.register
class Fragile(Retry):
    """Retry, except that it raises for one of the records."""

    name, chunk = "fragile", 2

    def perform(self, using, pks, decision, options):
        """Raise if the second record of a scenario is a member."""
        if OutboxRecord.rows.using(using).filter(pk__in=pks, payload__contains="Hello 2").exists():
            raise LookupError("a bad record")
        return super().perform(using, pks, decision, options)


def reject(env: Environment, *rows: OutboxRecord) -> None:
    """Reject records without a batch."""
    now = env.clock.now()
    OutboxRecord.rows.using(env.alias).reject(
        OutboxRejection.local(row.pk, "BAD", "bad", now) for row in rows
    )


def job_of(env: Environment, kind: str, rows=None, **options) -> OutboxOperation:
    """Create a job, and collect its members."""
    clock = env.context.clock
    job = jobs.create(env.alias, kind, by="anna", reason="corrected", options=options)
    rows = OutboxRecord.rows.using(env.alias).all() if rows is None else rows
    while not jobs.collect(job, rows, clock=clock):
        pass
    return job


def prepare_job(kind: str, **options):
    """Return a function that rejects three records and confirms a job that has them as members."""

    def prepare(env):
        invalid = (1, 2, 3) if kind == "fix" else ()
        reject(env, *env.enqueue(1, 2, 3, invalid=invalid))
        jobs.confirm(job_of(env, kind, **options), clock=env.context.clock)

    return prepare


def check_job(env: Environment, states: list[str], expected: str, changed: int, failed: int = 0) -> None:
    """Check the states of the records, and that the job and its action have counted each member once."""
    assert states == expected.split()
    job = OutboxOperation.objects.using(env.alias).get()
    assert (job.state, job.changed, job.failed) == (OperationState.FINISHED, changed, failed)
    assert OutboxAction.objects.using(env.alias).get().records == changed


def execute(env: Environment, chunk: int = 2) -> None:
    """Execute the confirmed jobs in small chunks."""
    for kind in jobs.kinds().values():
        type(kind).chunk = chunk
    jobs.run_operations(env.alias, 60, clock=env.context.clock)


@scenario(
    prepare=prepare_job("retry"),
    expected=lambda env, states: check_job(env, states, "delivered delivered delivered", 3),
    is_main=True,
)
def job_retries(env):
    """Workers execute a job in two chunks."""
    execute(env)


@scenario(
    prepare=prepare_job("fix", fix="nature"),
    settings={"FIXES": {"nature": "tests.fixes.nature"}},
    expected=lambda env, states: check_job(env, states, "superseded " * 3 + "delivered " * 3, 3),
)
def job_fixes(env):
    """Workers replace rejected records by corrected versions."""
    execute(env)


@scenario(
    prepare=prepare_job("fragile"),
    expected=lambda env, states: check_job(env, states, "delivered rejected delivered", 2, failed=1),
)
def job_has_a_bad_member(env):
    """A chunk raises: its members are tried one by one."""
    execute(env)


def prepare_rejected(env):
    """Leave three rejected records."""
    reject(env, *env.enqueue(1, 2, 3))


def confirm_what_is_left(env):
    """Do again what the person had begun: collect and confirm."""
    for job in OutboxOperation.objects.using(env.alias).filter(kind="erase").exclude(state="cancelled"):
        jobs.cancel(job, clock=env.context.clock)
    for job in OutboxOperation.objects.using(env.alias).filter(state=OperationState.COLLECTING):
        jobs.collect(job, OutboxRecord.rows.using(env.alias).rejected(), clock=env.context.clock)
    for job in OutboxOperation.objects.using(env.alias).filter(state=OperationState.READY):
        jobs.confirm(job, clock=env.context.clock)
    for job in OutboxOperation.objects.using(env.alias).filter(state__in=("paused", "failed")):
        jobs.proceed(job)
    if not OutboxOperation.objects.using(env.alias).filter(state__in=("running", "finished")).exists():
        jobs.confirm(job_of(env, "retry"), clock=env.context.clock)


@scenario(prepare=prepare_rejected, repair=confirm_what_is_left)
def job_is_confirmed(env):
    """A person creates, confirms, pauses and continues a job, and cancels two others."""
    rows = OutboxRecord.rows.using(env.alias).rejected()
    jobs.cancel(job_of(env, "erase", rows, **{LIST: "?q=anna"}), clock=env.context.clock)
    jobs.cancel(job_of(env, "retry", rows), clock=env.context.clock)
    job = job_of(env, "retry", rows)
    jobs.confirm(job, clock=env.context.clock)
    jobs.pause(job)
    jobs.proceed(job)


def prepare_unknown(env):
    """Confirm a job of a kind that this version does not have."""
    prepare_job("retry")(env)
    OutboxOperation.objects.using(env.alias).update(kind="unknown")


def make_known(env):
    """Install a version that has the kind."""
    OutboxOperation.objects.using(env.alias).update(kind="retry")
    confirm_what_is_left(env)


@scenario(prepare=prepare_unknown, repair=make_known)
def job_cannot_be_executed(env):
    """A worker finds a job of an unknown kind."""
    execute(env)


def prepare_pending_job(kind: str):
    """Return a function that confirms a job with three pending records as members."""

    def prepare(env):
        env.enqueue(1, 2, 3)
        jobs.confirm(job_of(env, kind), clock=env.context.clock)

    return prepare


@scenario(
    prepare=prepare_pending_job("discard"),
    expected=lambda env, states: check_job(env, states, "discarded discarded discarded", 3),
)
def job_discards(env):
    """Workers discard pending records."""
    execute(env)


@scenario(
    prepare=prepare_pending_job("erase"),
    expected=lambda env, states: check_job(env, states, "", 3),
    is_purging=True,
)
def job_erases(env):
    """Workers erase records."""
    execute(env)


def prepare_batch_job(kind: str):
    """Return a function that confirms a job with a batch in doubt."""

    def prepare(env):
        env.sandbox.fail_next(Fault.drop_before())
        env.enqueue(1, 2, 3)
        env.send()
        job = job_of(env, kind, OutboxBatch.objects.using(env.alias).filter(state=BatchState.IN_DOUBT))
        jobs.confirm(job, clock=env.context.clock)

    return prepare


@scenario(prepare=prepare_batch_job("release_doubt"))
def job_releases_from_doubt(env):
    """Workers make a batch in doubt due."""
    execute(env)


def prepare_waiting_batches(env):
    """Confirm a job with an isolating batch, its part, and a batch that is polled later."""
    prepare_isolating(env)
    OutboxAction.objects.using(env.alias).all().delete()
    env.enqueue(4)
    env.clock.move(400)
    OutboxBatch.objects.using(env.alias).update(due_at=env.clock.now() + timedelta(minutes=50))
    env.send(prefer_new=True)
    jobs.confirm(job_of(env, "send_now", OutboxBatch.objects.using(env.alias).all()), clock=env.context.clock)


@scenario(prepare=prepare_waiting_batches, expected="delivered delivered delivered delivered")
def job_sends_now(env):
    """Workers make batches due: one that is isolating, its part, and one that is polled."""
    execute(env)


def prepare_refused(env):
    """Confirm a job with a member that is not rejected any more."""
    rows = env.enqueue(1, 2, 3)
    reject(env, *rows)
    job = job_of(env, "retry")
    OutboxRecord.rows.using(env.alias).reopen([rows[1].pk])
    jobs.confirm(job, clock=env.context.clock)


@scenario(
    prepare=prepare_refused,
    expected=lambda env, states: check_job(env, states, "delivered delivered delivered", 2),
)
def job_refuses_a_member(env):
    """Workers execute a job with a member that was retried by hand meanwhile."""
    execute(env)


@scenario(
    prepare=prepare_batch_job("give_up"),
    expected=lambda env, states: check_job(env, states, "rejected rejected rejected", 1),
    is_purging=True,
)
def job_gives_up(env):
    """Workers give up a batch in doubt."""
    execute(env)


def resume_all(env):
    """End all holds."""
    for row in OutboxGroup.objects.using(env.alias):
        operations.resume_group(env.alias, row)
    operations.resume_workspace(env.alias, "default", clock=env.context.clock)


@scenario(repair=resume_all)
def held_and_resumed(env):
    """A person holds a workspace, resumes it, and holds a group."""
    clock = env.context.clock
    operations.pause_workspace(env.alias, "default", clock=clock)
    operations.resume_workspace(env.alias, "default", clock=clock)
    operations.pause_group(env.alias, "default", GROUP, clock=clock)


def prepare_throttled(env):
    """Let a retryAfter block the workspace for ten minutes."""
    env.enqueue(1, 2, 3)
    clock = env.context.clock
    OutboxWorkspace.objects.using(env.alias).throttle("default", clock.after(600), "429")


@scenario(prepare=prepare_throttled, repair=lambda env: (env.clock.move(700), resume_all(env)))
def held_while_throttled(env):
    """A person holds a workspace during a retryAfter, and resumes it."""
    clock = env.context.clock
    operations.pause_workspace(env.alias, "default", clock=clock)
    operations.resume_workspace(env.alias, "default", clock=clock)


@scenario(
    prepare=prepare_rejected, expected=lambda env, states: check_edited(env, states), repair=lambda env: None
)
def edited_by_hand(env):
    """A person edits a rejected record."""
    row = env.records[0]
    operations.edit_record(env.alias, row.pk, row.envelope())


def check_edited(env: Environment, states: list[str]) -> None:
    """Check that the record was replaced, if and only if the action log says so."""
    was_done = OutboxAction.objects.using(env.alias).exists()
    rest = ["rejected", "rejected"]
    assert states == (["superseded", *rest, "delivered"] if was_done else ["rejected", *rest])


def prepare_run(env):
    """Start a run with three records."""
    outbox.enqueue_many(map(record, (1, 2, 3)), using=env.alias, run="nightly")


def check_run(env: Environment, states: list[str]) -> None:
    """The run is closed with the action of the person, or open without one."""
    run = OutboxRun.objects.using(env.alias).get()
    actions = OutboxAction.objects.using(env.alias).filter(kind="close_run").count()
    assert (run.closed_at is not None) == (actions == 1)
    assert states == ["delivered"] * 3


@scenario(prepare=prepare_run, expected=check_run)
def closed_run(env):
    """A person closes a run."""
    run = OutboxRun.objects.using(env.alias).get()
    operations.close_run(env.alias, run.pk, Decision(by="anna"))
