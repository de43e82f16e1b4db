"""The columns of the models that are not Django's: columns for foreign text.

The package must not import a model. Its interface is one class for each kind of column.
"""

from .foreign_text import ForeignCharField, ForeignJSONField, ForeignTextField

__all__ = ["ForeignCharField", "ForeignJSONField", "ForeignTextField"]
