"""The process that makes sandboxes: small, of the standard library alone, and imported by no other."""
