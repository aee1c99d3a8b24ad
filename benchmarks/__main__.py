"""Run every benchmark that needs nothing but the package: `python -m benchmarks [--device cuda] [--out DIR]`."""

from __future__ import annotations

import argparse

from benchmarks import (
    bench_distance_mask,
    bench_evaluation,
    bench_extraction,
    bench_interpolation,
    bench_linear_weights,
    bench_points,
    bench_sampling,
    bench_surface,
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", default="benchmarks/results/local")
    options = parser.parse_args()
    shared = ["--device", options.device, "--out", options.out]
    for module in (
        bench_surface, bench_sampling, bench_linear_weights, bench_interpolation, bench_distance_mask, bench_points,
        bench_extraction, bench_evaluation,
    ):  # fmt: skip
        module.main(shared)
