"""A formal model of batches and versions, and the program that checks it: ``python -m docs.model``.

The page ``docs/explanation/model.md`` explains it.
"""
