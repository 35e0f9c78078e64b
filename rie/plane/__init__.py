"""The data plane: what is answered on the event loop because it happens once for each invocation, not deployment."""
