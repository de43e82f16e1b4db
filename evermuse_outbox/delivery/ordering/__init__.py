"""The order of records inside a group: newest first after an outage, and fair shares for the values of a label.

By default, the longest waiting records go first, and nothing of this package runs. Otherwise it chooses ids of pending
records, and sealing locks and packs these. The scheduler of groups does not know of it. This package must not lock or
change a record. Its interface is ``order_of``.
"""

from .choose import ChooseRecords, order_of

__all__ = ["ChooseRecords", "order_of"]
