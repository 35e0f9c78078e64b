"""Variables in one variable: so that what a function's environment says never steers the bootstrap's own process.

The dynamic loader and the interpreter obey variables (LD_PRELOAD …) before any code of ours runs, and the bootstrap is
more than the function is. The manager packs what the function shall see; the bootstrap unpacks it for the runtime.
"""

import binascii

from .errors import SettingsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def pack(variables: "Mapping[str, str]") -> str:
    """Base64 of `name=value` pairs, each ended by a NUL, which no variable can hold."""
    raw = b"".join(f"{name}={value}\0".encode("utf-8", "surrogateescape") for name, value in variables.items())
    return binascii.b2a_base64(raw, newline=False).decode("ascii")


def unpack(text: str) -> "dict[str, str]":
    """The variables again. Raises SettingsError for what `pack` has not made."""
    try:
        raw = binascii.a2b_base64(text).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        raise SettingsError("cannot read RIE_VARIABLES: it is not base64") from None
    pairs = (pair.partition("=") for pair in raw.split("\0") if pair)
    return {name: value for name, _, value in pairs}
