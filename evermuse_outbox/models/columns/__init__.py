"""The columns of the models that are not Django's: columns for foreign text, and a hash.

The package must not import a model. Its interface is one class for each kind of column, the expression ``Sha256``, and
the functions that find what makes a database alter a text.
"""

from .foreign_text import ForeignCharField, ForeignJSONField, ForeignTextField
from .sha256 import Sha256
from .stored_text import exact_collation, find_wrong_tables, hidden_tables, is_lenient, wrong_encoding

__all__ = [
    "ForeignCharField",
    "ForeignJSONField",
    "ForeignTextField",
    "Sha256",
    "exact_collation",
    "find_wrong_tables",
    "hidden_tables",
    "is_lenient",
    "wrong_encoding",
]
