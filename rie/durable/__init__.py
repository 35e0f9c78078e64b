"""Durable executions as a state machine: pure, without clock, store or invocations (lambda.md §13.1)."""
