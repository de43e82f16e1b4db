"""Code that the benchmarks share.

``testbed`` runs a Django project with its own database and worker processes. ``sink`` is an API that accepts every
request and counts. ``report`` prints and stores the figures, with the facts from ``machine``.
"""
