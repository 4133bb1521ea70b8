"""Benchmarks: every figure that the project claims, by one command each."""
