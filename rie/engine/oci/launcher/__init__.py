"""The process that makes sandboxes: small, of the standard library and the bootstrap alone."""
