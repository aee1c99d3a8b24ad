"""Benchmarks: one module per kernel family; `python -m benchmarks` runs them all."""
