"""The engine on a Docker daemon; `client` is the only importer of the docker SDK."""

from rie.engine.docker.engine import DockerEngine

__all__ = ["DockerEngine"]
