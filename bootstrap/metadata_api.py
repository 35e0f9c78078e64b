"""The metadata endpoint: where the environment runs, for those who have its token (emulator spec §1.5)."""

from .wire import METADATA_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .connection import Connection
    from .http1 import Request
    from .loop import Loop

HEADERS = [("Content-Type", "application/json"), ("Cache-Control", "private, max-age=43200, immutable")]
TEXT = [("Content-Type", "text/plain; charset=utf-8")]
# The parts of a region's name as the ids of its availability zones have them: us-east-1 → use1, ap-southeast-2 → apse2.
DIRECTIONS = {
    "north": "n",
    "northeast": "ne",
    "east": "e",
    "southeast": "se",
    "south": "s",
    "southwest": "sw",
    "west": "w",
    "northwest": "nw",
    "central": "c",
    "gov": "g",
}


class MetadataApi:
    """One path, to which the environment's variables lead."""

    def __init__(self, loop: "Loop") -> None:
        self._settings = loop.settings

    def handle(self, request: "Request", connection: "Connection") -> bool:
        """Answer one request; False if the path is nobody's here."""
        if request.path != METADATA_PATH:
            return False
        token = self._settings.variables["AWS_LAMBDA_METADATA_TOKEN"]
        if request.method != "GET":
            connection.respond(405, [("Allow", "GET"), *TEXT], b"Method Not Allowed\n")
        elif request.headers.get("authorization") != f"Bearer {token}":
            connection.respond(401, TEXT, b"Unauthorized\n")
        else:
            document = f'{{"AvailabilityZoneID":"{zone_id(self._settings.region)}"}}'
            connection.respond(200, HEADERS, document.encode())
        return True


def zone_id(region: str) -> str:
    """The id of a region's first availability zone."""
    kept = "".join(character for character in region.lower() if character.isalnum() or character == "-")
    return "".join(DIRECTIONS.get(part, part) for part in kept.split("-")) + "-az1"
