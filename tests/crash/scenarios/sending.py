"""A batch is sealed and sent, and the answer is settled."""

from __future__ import annotations

import dataclasses

import redis

from evermuse_outbox.delivery.loop import seal_next, send_next
from evermuse_outbox.delivery.sending import lease_due
from evermuse_outbox.sandbox import Fault
from tests.services import REDIS_URL

from ..scenario import scenario

DAY = 86_400


@scenario(is_main=True, is_paused=True)
def accepted(env):
    """202 for all records."""
    env.relay()


@scenario()
def sealed(env):
    """A batch is sealed in a workspace that has no row yet."""
    seal_next(env.context)


KEYS = ("em_sk_sandbox_1", "em_sk_sandbox_2")
POOL = {"API_KEY": KEYS[0], "API_KEYS": [KEYS[1]]}
WORST_CASE = {
    "keys": dict.fromkeys((*KEYS, "em_sk_sandbox"), ("api:write", "api:read")),
    "listing_scope": "key",
    "idempotency_scope": "key",
}


@scenario(settings=POOL, sandbox=WORST_CASE)
def sent_with_one_of_two_keys(env):
    """202 for a batch that is bound to a key of the pool."""
    env.relay()


@scenario(settings=POOL, sandbox=WORST_CASE, faults=[Fault(status=401)])
def blocked_one_of_two_keys(env):
    """401: the key is blocked, and the batch is sent with the other one."""
    env.relay()
    env.clock.move(100)
    env.relay()


@scenario()
def given_back(env):
    """The lease is too short for an answer: the batch is given back unsent."""
    with env.with_settings(LEASE=1):
        env.relay()


@scenario(is_paced=True, settings={"RATE_LIMIT": 100_000})
def paced_by_database(env):
    """202, with each slot reserved in the throttle row of the database."""
    env.relay()


@scenario(is_paced=True, settings={"RATE_LIMIT": 100_000}, faults=[Fault.too_many(0.001)])
def throttled(env):
    """429 blocks the workspace and the throttle."""
    env.relay()


def prepare_known_to_redis(env):
    env.enqueue(1, 2, 3)
    pace, _ = env.context.throttle.keys
    # Without state, Redis gives no slot at first.
    redis.Redis.from_url(REDIS_URL).hset(pace, "next_slot_at", 0)


if REDIS_URL:

    @scenario(
        prepare=prepare_known_to_redis,
        is_paced=True,
        settings={"RATE_LIMIT": 100_000, "REDIS_URL": REDIS_URL},
    )
    def paced_by_redis(env):
        """202, with each slot reserved in Redis."""
        env.relay()


def prepare_two_versions(env):
    env.enqueue(1, 2)
    env.enqueue(1, data={"version": 2})


@scenario(prepare=prepare_two_versions, expected="superseded delivered delivered")
def unsent_versions(env):
    """Two versions of one identity are pending: the older one is superseded."""
    env.relay()


def prepare_older_in_flight(env):
    env.enqueue(1)
    env.relay()
    env.enqueue(1, data={"version": 2})
    env.clock.move(10)


@scenario(prepare=prepare_older_in_flight, expected="delivered delivered", may_repeat=True)
def newer_version_waits(env):
    """The older version is finished; then the newer one is sent."""
    env.relay()
    env.poll()
    env.relay()


@scenario(faults=[Fault(status=401)])
def key_refused(env):
    """401 pauses the workspace."""
    env.relay()


@scenario(faults=[Fault.no_credits()])
def no_credits(env):
    """402 pauses the workspace."""
    env.relay()


@scenario()
def no_key(env):
    """No key is set: the workspace is paused before anything is sealed."""
    with env.with_settings(API_KEY=""):
        env.relay()


@scenario(is_paced=True, settings={"RATE_LIMIT": 100_000})
def redis_is_down(env):
    """The throttle is in Redis, and Redis is down: nothing is sent."""
    with env.with_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        env.relay()


@scenario(faults=[Fault.server_error()])
def server_error(env):
    """500: the batch is in doubt, and the workspace backs off."""
    env.relay()


@scenario(faults=[Fault.drop_after()], is_paused=True)
def dropped_after_handling(env):
    """The batch was accepted and the answer was lost: it is in doubt."""
    env.relay()


@scenario(faults=[Fault(status=418)])
def not_an_answer_of_evermuse(env):
    """An answer that Evermuse does not give: nothing was accepted."""
    env.relay()


class LosesLease:
    """A client; after each answer another worker takes the lease over."""

    def __init__(self, env, context):
        self._env = env
        self._context = context

    def __getattr__(self, name):
        return getattr(self._context.client, name)

    def ingest(self, *arguments, **options):
        answer = self._context.client.ingest(*arguments, **options)
        self._env.clock.move(self._context.settings.lease + 1)
        self._env.rescue()
        assert lease_due(self._context)
        return answer


@scenario()
def lease_taken_over(env):
    """202 after the lease was taken over: the answer is logged, and the new holder settles the batch."""
    context = env.context

    def now():
        env.clock.move(1)  # or the POST would start when the lease starts, and count as logged by the rescue
        return env.clock.now()

    clock = dataclasses.replace(context.clock, now=now)
    send_next(dataclasses.replace(context, clock=clock, client=LosesLease(env, context)))


def prepare_in_doubt(env):
    env.enqueue(1, 2, 3)
    env.sandbox.fail_next(Fault.drop_after())
    env.relay()
    env.clock.move(600)


@scenario(prepare=prepare_in_doubt, is_paused=True)
def doubt_ends(env):
    """The batch in doubt is sent again with its key as a probe, and the circuit breaker closes."""
    env.relay()


@scenario(prepare=prepare_in_doubt, faults=[Fault.too_many(5)])
def doubt_goes_on(env):
    """429 for a batch in doubt, which stays in doubt."""
    env.relay()


def prepare_long_in_doubt(env):
    prepare_in_doubt(env)
    env.clock.move(2 * DAY)
    env.sandbox.forget_idempotency_keys()


@scenario(prepare=prepare_long_in_doubt, is_paused=True)
def found_in_listing(env):
    """Evermuse may have forgotten the key, and has the batch: it is recognised in the listing."""
    env.relay()


def prepare_long_in_doubt_and_unknown(env):
    env.enqueue(1, 2, 3)
    env.sandbox.fail_next(Fault.drop_before())
    env.relay()
    env.clock.move(2 * DAY)


@scenario(prepare=prepare_long_in_doubt_and_unknown)
def not_in_listing(env):
    """Evermuse may have forgotten the key, and does not have the batch: it is sent again."""
    env.relay()


def prepare_blocked(env):
    env.enqueue(1, 2, 3)
    env.sandbox.fail_next(Fault.too_many(5))
    env.relay()
    env.clock.move(10)


@scenario(prepare=prepare_blocked)
def retry_after_is_over(env):
    """The ``retryAfter`` of a 429 has passed."""
    env.relay()


def prepare_altered(env):
    env.enqueue(1, 2, 3)
    env.sandbox.fail_next(Fault.drop_before())
    env.relay()
    env.clock.move(600)
    first, second, _ = env.records
    for row, old, new in ((first, "Hello", "Goodbye"), (second, '"_type"', '"_sort"')):
        env.records.filter(pk=row.pk).update(payload=row.payload.replace(old, new))


@scenario(prepare=prepare_altered, expected="rejected rejected delivered")
def altered_after_sealing(env):
    """The lines no longer give the sealed bytes: those that are as enqueued are sealed again, in doubt."""
    env.relay()


def prepare_removed(env):
    env.enqueue(1, 2, 3)
    env.sandbox.fail_next(Fault(status=503))
    env.relay()
    env.clock.move(600)
    env.records[0].delete()


@scenario(prepare=prepare_removed, expected="delivered delivered")
def removed_after_sealing(env):
    """A record was deleted after the sealing: the others are sealed again."""
    env.relay()


def prepare_other_contract(env):
    with env.with_settings(CONTRACT="openapi"):
        env.enqueue(1, 2)
        env.enqueue(3, _project_id=None, _project_ids=["p1", "p2"])


@scenario(prepare=prepare_other_contract, expected="delivered delivered rejected")
def other_contract(env):
    """Lines of another contract are translated at sealing; a line that cannot be translated is rejected."""
    env.relay()


def renew_url(attachment, record):
    """Return a new URL, or raise for one of the files."""
    if attachment["filename"] == "gone":
        raise FileNotFoundError("the object is gone")
    if attachment["filename"] == "slow":
        for clock in CLOCKS[-1:]:  # only in the process that is killed
            clock.move(100)
    return f"https://storage.example/{attachment['filename']}?signature=new"


CLOCKS = []
"""The clock of the process, for the function above."""


def prepare_files(env, *names):
    for number, name in enumerate(names, start=1):
        url = f"https://storage.example/{name}?signature=old"
        env.enqueue(number, _attachments=[{"type": "file", "filename": name, "vendor_url": url}])


RENEWING = {"RENEW_URL": f"{__name__}.renew_url"}


@scenario(prepare=lambda env: prepare_files(env, "a", "b", "c"), settings=RENEWING)
def urls_renewed(env):
    """The URLs of attachments are renewed before the batch is sent."""
    env.relay()


def check_gone(env, states):
    """Check that the good records arrived. After a crash, the batch may have been sent: then its bytes stay."""
    assert states in (["delivered", "rejected", "delivered"], ["delivered"] * 3)


@scenario(prepare=lambda env: prepare_files(env, "a", "gone", "c"), settings=RENEWING, expected=check_gone)
def url_not_renewed(env):
    """The function fails for one record: it is rejected, and the others are sealed again."""
    env.relay()


@scenario(prepare=lambda env: prepare_files(env, "slow", "slow", "c"), settings=RENEWING)
def slow_renewal(env):
    """The function is slow, so the lease is extended."""
    CLOCKS.append(env.clock)
    env.relay()


@scenario(prepare=lambda env: prepare_files(env, "a", "b", "c"), settings=RENEWING)
def no_function(env):
    """The function cannot be imported: the batch waits."""
    with env.with_settings(RENEW_URL="tests.no_module.renew_url"):
        env.relay()
