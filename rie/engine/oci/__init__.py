"""The daemonless engine: sandboxes of namespaces, overlay file systems and control groups, nothing else running."""

from rie.engine.oci.engine import OciEngine

__all__ = ["OciEngine"]
