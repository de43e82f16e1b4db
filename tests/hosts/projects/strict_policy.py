"""A strict Content-Security-Policy."""

from tests.hosts.base import *  # noqa: F403
from tests.hosts.base import MIDDLEWARE

MIDDLEWARE = ["tests.strict_policy.strict_policy", *MIDDLEWARE]


def verify(pages):
    """Check that no page has a style or a script that the policy blocks."""
    from tests.admin.any_admin.walk import INLINE

    assert [page.address for page in pages if INLINE.search(page.html)] == []
