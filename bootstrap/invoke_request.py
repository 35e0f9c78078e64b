"""What a caller's request says of its invocation beside the event, read and checked (service spec §2.1, §2.2)."""

from . import json_text
from .wire import COGNITO_IDENTITY, MAX_ASYNC_EVENT, MAX_CLIENT_CONTEXT, MAX_EVENT, MAX_OLD_ASYNC_EVENT, MAX_TENANT_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .http1 import Request

BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
HEX = frozenset("0123456789abcdefABCDEF")
OF_TENANTS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/=+-@ ")


class BadRequest(Exception):
    """The caller's mistake: (status, code, message)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def check_choice(value: str, name: str, choices: "tuple[str, ...]") -> None:
    """One of a few words, as the service words it."""
    if value not in choices:
        raise BadRequest(
            400,
            "ValidationException",
            f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(choices)}]",
        )


def check_size(request: "Request", is_event: bool, is_old: bool) -> None:
    """Who waits for the answer may send more than who does not; the old operation takes still less."""
    limit = MAX_OLD_ASYNC_EVENT if is_old else MAX_ASYNC_EVENT if is_event else MAX_EVENT
    if request.too_large or len(request.body) > limit:
        message = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
        raise BadRequest(413, "RequestEntityTooLargeException", message)


def check_json(body: bytes) -> None:
    """Refuse what isn't JSON as the service does."""
    fault = json_text.fault(body) if body else ""
    if fault:
        message = f"Could not parse request body into json: Could not parse payload into json: {fault}"
        raise BadRequest(400, "InvalidRequestContentException", message)


def client_context(text: str) -> str:
    """The client context as JSON text on one line, from its base64 form."""
    if not text:
        return ""
    import binascii

    if len(text) > MAX_CLIENT_CONTEXT:
        raise BadRequest(
            400, "InvalidRequestContentException", f"Client context must be no more than {MAX_CLIENT_CONTEXT} bytes."
        )
    try:
        if len(text) % 4 or not BASE64.issuperset(text.rstrip("=")):
            raise ValueError
        raw = binascii.a2b_base64(text.encode("latin-1"))
        raw.decode()
    except (binascii.Error, UnicodeError, TypeError, ValueError):
        message = "Client context must be valid Base64-encoded JSON."
        raise BadRequest(400, "InvalidRequestContentException", message) from None
    # Byte for byte as it came, but on one line: headers are written in latin-1, which keeps every byte.
    return "".join(character if character >= " " else " " for character in raw.decode("latin-1"))


def cognito_identity(text: str) -> str:
    """The identity as the runtime gets it; empty if none was sent."""
    if not text:
        return ""
    import json

    names = ("cognitoIdentityId", "cognitoIdentityPoolId")
    try:
        document = json.loads(text)
        identity = {name: document.get(name, "") for name in names}
    except (ValueError, AttributeError, RecursionError):
        identity = {}
    if not identity or not all(isinstance(value, str) for value in identity.values()):
        message = f"cannot read {COGNITO_IDENTITY}: it must be a JSON object with the strings {' and '.join(names)}"
        raise BadRequest(400, "InvalidRequestContentException", message)
    return json.dumps(identity, separators=(",", ":"))


def tenant_id(text: "str | None") -> str:
    """As the service has it (service spec §13.2); empty if none was sent."""
    if text is None or (0 < len(text) <= MAX_TENANT_ID and OF_TENANTS.issuperset(text)):
        return text or ""
    raise BadRequest(
        400,
        "ValidationException",
        f"1 validation error detected: Value '{text[:MAX_TENANT_ID]}' at 'tenantId' failed to satisfy constraint: "
        f"Member must have 1 to {MAX_TENANT_ID} characters, of [a-zA-Z0-9\\._:\\/=+\\-@ ]",
    )


def patience(text: "str | None") -> "float | None":
    """Seconds, as the manager wrote them."""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def is_request_id(text: str) -> bool:
    """A UUID, and nothing that could break a path, a header or a log line."""
    return len(text) == 36 and text.count("-") == 4 and HEX.issuperset(text.replace("-", ""))
