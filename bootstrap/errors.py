"""Errors of the bootstrap.

BootstrapError            the root; its text reads "cannot <do what>: <why, with values>"
├── SettingsError         a variable or an argument can't be read; the process ends with status 2
├── ProtocolError         bytes that are not HTTP/1.1 as we accept it; carries the status to answer with
└── IllegalEvent          the machine was told something that can't happen in its state
"""


class BootstrapError(Exception):
    """The root of the bootstrap's errors."""


class SettingsError(BootstrapError):
    """A variable or an argument can't be read."""


class ProtocolError(BootstrapError):
    """Bytes that are not HTTP/1.1 as we accept it; `status` is the answer before the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class IllegalEvent(BootstrapError):
    """The machine was told something that its state does not allow; nothing has changed."""
