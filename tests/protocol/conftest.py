"""The fixtures of the protocol tests."""

from tests.protocol.emulator import emulate
from tests.protocol.programs import install

__all__ = ["emulate", "install"]
