"""The migrations of the pre-releases, for one last ``migrate`` of a database that was made by one of them.

This package must not change any more: ``evermuse_outbox.migrations`` creates new databases and holds every later
migration. ``docs/how-to/upgrade.md`` says how to use it.
"""
