"""The project's benchmarks: every figure the README quotes, always measured beside its peer in the same run."""
