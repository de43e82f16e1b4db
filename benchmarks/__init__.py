"""Benchmarks of the outbox. ``python -m benchmarks --help`` lists them."""
