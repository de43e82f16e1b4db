"""The columns of the models that are not Django's: columns for foreign text, and a hash.

The package must not import a model. Its interface is one class for each kind of column,
and the expression ``Sha256``.
"""

from .foreign_text import ForeignCharField, ForeignJSONField, ForeignTextField
from .sha256 import Sha256

__all__ = ["ForeignCharField", "ForeignJSONField", "ForeignTextField", "Sha256"]
