"""What all requests of extensions have in common: who asks, and how they are refused (service spec §3.7)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .connection import Connection
    from .http1 import Request

JSON = [("Content-Type", "application/json")]
IDENTIFIER = "lambda-extension-identifier"
HEX = frozenset("0123456789abcdefABCDEF")


def identifier_of(request: "Request", connection: "Connection") -> str:
    """The identifier that the request carries; empty if it was refused."""
    identifier = request.headers.get(IDENTIFIER, "")
    if not identifier:
        message = "Missing Lambda-Extension-Identifier header"
        refuse(connection, "Extension.MissingExtensionIdentifier", message)
    elif len(identifier) != 36 or not HEX.issuperset(identifier.replace("-", "")):
        refuse(connection, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
        return ""
    return identifier


def refuse(connection: "Connection", error_type: str, message: str) -> None:
    """403, with why."""
    connection.respond(403, JSON, dump({"errorMessage": message, "errorType": error_type}) + b"\n")


def dump(document: "dict[str, Any]") -> bytes:
    """JSON as the service writes it."""
    import json

    return json.dumps(document, separators=(",", ":")).encode()
