"""Every error into the service's error answer: status, header and the key its text stands under (lambda.md §0.2)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import orjson

from rie.api.model import service_model
from rie.api.render import JSON, REQUEST_ID, Rendered
from rie.errors import ArchiveInvalid, HostFault, ImageAccessDenied, ImageFault, ImageNotFound, ServiceError

ERROR_TYPE = "x-amzn-ErrorType"


@dataclass(frozen=True, slots=True)
class _Form:
    """How one error goes out: its status, the key of its text, and who is to blame, where that is said.

    `headers` are those that members of it go into, by member.
    """

    status: int
    key: str
    blames: str | None
    headers: Mapping[str, str] = field(default_factory=dict)


# Codes of the front end and of the auth layer, which the model lacks.
_UNMODELLED = {
    "AccessDeniedException": _Form(403, "Message", None),
    "ExpiredTokenException": _Form(403, "message", None),
    "IncompleteSignatureException": _Form(403, "message", None),
    "InvalidSignatureException": _Form(403, "message", None),
    "MethodNotAllowedException": _Form(405, "message", None),
    "MissingAuthenticationTokenException": _Form(403, "message", None),
    "NotImplementedException": _Form(501, "message", None),
    "RequestEntityTooLargeException": _Form(413, "message", None),
    "SerializationException": _Form(400, "message", None),
    "ThrottlingException": _Form(400, "message", None),
    "UnknownOperationException": _Form(404, "message", None),
    "UnrecognizedClientException": _Form(403, "message", None),
    "ValidationException": _Form(400, "message", None),
}
_UNKNOWN = _Form(400, "message", None)


def render_error(error: ServiceError, request_id: str | None = None) -> Rendered:
    """(status, headers, body) of an error answer; `request_id` None makes one up."""
    form = _forms().get(error.code, _UNKNOWN)
    extra = dict(error.extra)
    in_headers = {header: str(extra.pop(name)) for name, header in form.headers.items() if name in extra}
    body: dict[str, object] = extra
    if form.blames:
        body["Type"] = form.blames
    body[form.key] = error.message
    headers = {
        REQUEST_ID: request_id or str(uuid.uuid4()),
        ERROR_TYPE: error.code,
        "Content-Type": JSON,
        **in_headers,
    }
    return error.status or form.status, headers, orjson.dumps(body)


def as_service_error(error: Exception) -> ServiceError | None:
    """What a caller sees of an error of this package; None for what is none, and must not be told."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, ImageNotFound):
        return ServiceError(
            "InvalidParameterValueException",
            f"Source image {error.reference} does not exist. Provide a valid source image.",
        )
    if isinstance(error, ImageAccessDenied):
        return ServiceError(
            "AccessDeniedException",
            "Lambda does not have permission to access the ECR image. Check the ECR permissions.",
        )
    if isinstance(error, ImageFault):
        return ServiceError(
            "InvalidParameterValueException",
            f"Source image {error.reference} is not valid. Provide a valid source image.",
        )
    if isinstance(error, ArchiveInvalid):
        return ServiceError("InvalidParameterValueException", error.answer)
    return ServiceError("ServiceException", str(error)) if isinstance(error, HostFault) else None


@cache
def _forms() -> dict[str, _Form]:
    modelled = {}
    for shape in service_model().error_shapes:
        error = shape.metadata.get("error", {})
        modelled[shape.error_code] = _Form(
            status=int(error.get("httpStatusCode", 400)),
            key="message" if "message" in shape.members else "Message",
            blames="User" if error.get("senderFault") else "Service",
            headers={
                name: member.serialization["name"]
                for name, member in shape.members.items()
                if member.serialization.get("location") == "header"
            },
        )
    return {**_UNMODELLED, **modelled}
