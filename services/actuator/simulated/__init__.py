"""Simulated targets: clusters and a network that run nothing, on scenario time, for `./run`, tests and benchmarks."""
