"""The fixture of the protocol tests."""

from tests.protocol.emulator import emulate

__all__ = ["emulate"]
