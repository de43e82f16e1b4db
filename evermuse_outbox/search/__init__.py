"""Find records by what is in their payloads, in a table of any length.

Workers fill an index with the terms of each record: vendor ids, thread id and participants. The package must not send
anything or change a record, and ``enqueue`` must not depend on it. Its public interface is :func:`index_records`,
:func:`forget_terms` and :func:`term_hash`.
"""

from .indexer import forget_terms, index_records
from .terms import read_terms, term_hash

__all__ = ["forget_terms", "index_records", "read_terms", "term_hash"]
