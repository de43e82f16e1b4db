"""Find records by what is in their payloads, in a table of any length.

Workers fill an index with the terms of each record: vendor ids, thread id and participants. The package must not send
anything or change a record, and ``enqueue`` must not depend on it. Its public interface is :func:`find_records` with
its result :class:`SearchResult`, :func:`index_records`, :func:`stop_indexing` and
:func:`forget_terms`, and :func:`term_hash`. :func:`load_head` reads a stored line without its ``data``.
"""

from .find import SearchResult, find_records, parse_id
from .indexer import forget_terms, index_records, stop_indexing
from .terms import load_head, read_terms, term_hash
from .text import MAX_RECORDS as MAX_RECORDS_OF_TEXT

__all__ = [
    "MAX_RECORDS_OF_TEXT",
    "SearchResult",
    "find_records",
    "forget_terms",
    "index_records",
    "load_head",
    "parse_id",
    "read_terms",
    "stop_indexing",
    "term_hash",
]
