"""HTML helpers of the admin: states, links, times, sizes and bars, the same on every page.

This package formats values. It makes no query and does not depend on a page. Pages use ``html.state_chip``,
``html.link_to``, ``html.time_tag``, ``html.two_lines``, ``html.unbroken``, ``html.long_id``, ``html.progress_bar``,
``html.duration`` and ``html.byte_size``, and :class:`Links` for addresses.
"""

from .links import Links
from .tags import (
    EMPTY,
    OUTCOME_TONES,
    chip,
    hidden,
    link_to,
    long_id,
    progress_bar,
    state_chip,
    time_tag,
    two_lines,
    unbroken,
)
from .units import NBSP, byte_size, duration

__all__ = [
    "EMPTY",
    "NBSP",
    "OUTCOME_TONES",
    "Links",
    "byte_size",
    "chip",
    "duration",
    "hidden",
    "link_to",
    "long_id",
    "progress_bar",
    "state_chip",
    "time_tag",
    "two_lines",
    "unbroken",
]
