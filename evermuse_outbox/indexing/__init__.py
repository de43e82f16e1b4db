"""Indexes of large tables are built online: after ``migrate``, while records are enqueued and sent.

The package compares the indexes that the models declare with the catalogue of the database, and builds what is missing.
It must not change a row. Its public interface is :func:`expected_indexes`, :func:`find_steps`, :func:`build`,
:func:`read_progress`, :func:`is_built` and :func:`unbuilt_indexes`.
"""

from .build import Build, Busy, build
from .conditional import SHARES_INDEX
from .expected import ExpectedIndex, expected_indexes, unwanted_indexes
from .progress import BuildProgress, read_progress
from .steps import Step, find_steps, is_built, unbuilt_indexes

__all__ = [
    "SHARES_INDEX",
    "Build",
    "BuildProgress",
    "Busy",
    "ExpectedIndex",
    "Step",
    "build",
    "expected_indexes",
    "find_steps",
    "is_built",
    "read_progress",
    "unbuilt_indexes",
    "unwanted_indexes",
]
