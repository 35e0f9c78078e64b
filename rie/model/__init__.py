"""Frozen records, no I/O: what the rest of the package passes around."""
