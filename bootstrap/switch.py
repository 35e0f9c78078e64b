"""One listener, several APIs: the prefix of a path decides who answers."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Callable, Protocol

    from .connection import Connection
    from .http1 import Request

    Handler = Callable[[Request, Connection], bool]

    class Streams(Protocol):
        """The one of the doors that takes bodies in pieces."""

        def wants_pieces(self, request: Request, connection: Connection) -> bool: ...
        def take_pieces(self, connection: Connection, pieces: list[bytes]) -> None: ...
        def cut(self, connection: Connection) -> None: ...
        def truncated(self, connection: Connection) -> None: ...


class Switch:
    """A door made of doors; what nobody takes is 404."""

    def __init__(self, max_body: int, routes: "Mapping[str, Handler]", streams: "Streams") -> None:
        """`routes`: by prefixes none of which begins another, those that are asked most first."""
        self.max_body = max_body
        self.wants_pieces = streams.wants_pieces
        self.take_pieces = streams.take_pieces
        self.cut = streams.cut
        self.truncated = streams.truncated
        self._routes = tuple(routes.items())

    def handle(self, request: "Request", connection: "Connection") -> None:
        """Pass one request on."""
        path = request.path
        for prefix, handler in self._routes:
            if path.startswith(prefix):
                if handler(request, connection):
                    return
                break
        connection.respond(404, [("Content-Type", "text/plain; charset=utf-8")], b"404 page not found\n")
