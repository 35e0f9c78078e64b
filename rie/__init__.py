"""Lambda for container images, on a machine of one's own."""

__version__ = "0.1.0"
