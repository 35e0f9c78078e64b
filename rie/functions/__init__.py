"""Functions: what may be asked of them, and what becomes of it. Knows no HTTP and no engine."""
