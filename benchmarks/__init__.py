"""Measurements of this outbox, one command each: ``python -m benchmarks --help``."""
