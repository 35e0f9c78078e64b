"""Credentials of the function's role, where they can't be variables: a snapshot outlives them (lambda.md, section 8).

SDKs find it by AWS_CONTAINER_CREDENTIALS_FULL_URI, as in containers of other services, and ask again in time.
"""

from .wire import CREDENTIALS_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .connection import Connection
    from .http1 import Request
    from .loop import Loop

JSON = [("Content-Type", "application/json")]
TEXT = [("Content-Type", "text/plain; charset=utf-8")]


class CredentialsApi:
    """One path, for those who have the token."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop

    def handle(self, request: "Request", connection: "Connection") -> bool:
        """Answer one request; False if the path is nobody's here."""
        if request.path != CREDENTIALS_PATH:
            return False
        token = self._loop.settings.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
        if request.method != "GET":
            connection.respond(405, [("Allow", "GET"), *TEXT], b"Method Not Allowed\n")
        elif request.headers.get("authorization") != token:
            connection.respond(401, TEXT, b"Unauthorized\n")
        else:
            connection.respond(200, JSON, self._loop.credentials.encode())
        return True
