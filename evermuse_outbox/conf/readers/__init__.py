"""Readers of single values: each takes a value from the settings dict and returns it typed.

They must not know which settings exist. The interface is the functions ``read_…`` and the classes :class:`Choice` and
:class:`Number`, which raise :class:`InvalidValue`, and the types
:class:`Secret`, :class:`Retention`, :class:`FairShares` and :class:`NewestFirst`.
"""

from .master_keys import MasterKeys, key_bytes, read_key_list, read_master_keys
from .order import FairShares, NewestFirst, read_fair_shares, read_newest_first
from .retention import DEFAULT_DAYS, Retention, read_payload_retention, read_retention
from .secret import Secret
from .values import (
    FORMAT_HINTS,
    LABEL_NAMES,
    Choice,
    InvalidValue,
    Number,
    is_dotted_path,
    is_label_name,
    read_aliases,
    read_directory,
    read_fixes,
    read_flag,
    read_format_hints,
    read_function,
    read_key,
    read_keys,
    read_label,
    read_path,
    read_proxy,
    read_queue,
    read_redis_url,
    read_seconds,
    read_secret,
    read_url,
    show_number,
    suggest,
)

__all__ = [
    "DEFAULT_DAYS",
    "FORMAT_HINTS",
    "LABEL_NAMES",
    "Choice",
    "FairShares",
    "InvalidValue",
    "MasterKeys",
    "NewestFirst",
    "Number",
    "Retention",
    "Secret",
    "is_dotted_path",
    "is_label_name",
    "key_bytes",
    "read_aliases",
    "read_directory",
    "read_fair_shares",
    "read_fixes",
    "read_flag",
    "read_format_hints",
    "read_function",
    "read_key",
    "read_key_list",
    "read_keys",
    "read_label",
    "read_master_keys",
    "read_newest_first",
    "read_path",
    "read_payload_retention",
    "read_proxy",
    "read_queue",
    "read_redis_url",
    "read_retention",
    "read_seconds",
    "read_secret",
    "read_url",
    "show_number",
    "suggest",
]
