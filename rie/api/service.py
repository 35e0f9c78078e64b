"""The control plane's Flask application: route, parse, validate, handle, render."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from rie.api.context import RequestContext, signed_by
from rie.api.errors import as_service_error, render_error
from rie.api.model import operation_model
from rie.api.parse import Params, Parts, parse
from rie.api.render import Rendered, render
from rie.api.routes import Match, Query, match
from rie.api.validate import validate
from rie.errors import ServiceError
from rie.iam.caller import Identity, local
from rie.model.scope import Scope

Handler = Callable[[RequestContext, Params], Mapping[str, Any]]
"""Answers one operation: members in, members out. Raises ServiceError, ImageFault, HostFault."""

Identify = Callable[[Request], Identity]
"""Who sent a request, as whoever stands in front of this application has found out."""
Permit = Callable[[RequestContext, str, Params], RequestContext]
"""(context, operation, members) → the context to answer in. Raises ServiceError for who may not."""

MAX_REQUEST = 70_167_211  # bytes of a whole request body, AWS limit: a 50 MB zip in base64, in JSON

_log = logging.getLogger(__name__)


def create_app(
    handlers: Mapping[str, Handler],
    *,
    account: str = "123456789012",
    region: str = "us-east-1",
    identify: Identify | None = None,
    permit: Permit | None = None,
) -> Flask:
    """The application; `handlers` by operation. `account` and `region` hold where a signature names none.

    Without `identify` everybody is the account's root; without `permit` everybody may do everything.

    Needs the raw path: from gunicorn and werkzeug (RAW_URI) or an ASGI server (`raw_path`). Where there is neither,
    the path is encoded again, and a `%2F` in a label is lost.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST - 1

    # Before Flask's routing, not a view of it: werkzeug routes on the decoded path, and answers errors in HTML.
    @app.before_request
    def answer() -> Response:
        identity = identify(request) if identify is not None else _unverified(request, Scope(account, region))
        scope = identity.scope
        context = RequestContext(
            scope.account, scope.region, str(uuid.uuid4()), identity.caller, f"{request.scheme}://{request.host}"
        )
        status, headers, body = _answer(handlers, permit, context, request)
        return Response(body, status, headers)

    return app


def _unverified(request: Request, scope: Scope) -> Identity:
    query = request.query_string.decode("latin-1")
    access_key, region = signed_by(request.headers.get("Authorization"), query) or ("", scope.region)
    return Identity(local(scope.account, access_key), Scope(scope.account, region))


def _answer(
    handlers: Mapping[str, Handler], permit: Permit | None, context: RequestContext, request: Request
) -> Rendered:
    """The response, whatever happens on the way to it."""
    what = f"{request.method} {request.path}"
    try:
        query = parse_qs(request.query_string.decode("latin-1"), keep_blank_values=True)
        found = match(request.method, raw_path(request.environ), query)
        what = found.operation
        handler = handlers.get(found.operation)
        if handler is None:
            raise ServiceError("NotImplementedException", f"The operation {what} is not available here.")
        return _call(handler, permit, found, query, context, request)
    except Exception as error:
        known = as_service_error(error)
        if known is None:
            _log.exception("cannot answer %s (request %s)", what, context.request_id)
            known = ServiceError(
                "ServiceException", f"An internal error occurred while answering request {context.request_id}."
            )
        elif known.code == "ServiceException":
            _log.error("cannot answer %s (request %s): %s", what, context.request_id, error)
        return render_error(known, context.request_id)


def _call(
    handler: Handler, permit: Permit | None, found: Match, query: Query, context: RequestContext, request: Request
) -> Rendered:
    operation = operation_model(found.operation)
    body = _body(found.operation, request)
    params = parse(operation, Parts(found.labels, query, dict(request.headers), body))
    validate(operation, params)
    if permit is not None:
        context = permit(context, found.operation, params)
    return render(operation, handler(context, params), context.request_id)


def _body(operation: str, request: Request) -> bytes:
    if "asgi.scope" in request.environ:
        # ASGI servers end the stream where the body ends; without this a chunked body would read as none.
        request.environ["wsgi.input_terminated"] = True
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise ServiceError(
            "RequestEntityTooLargeException",
            f"Request must be smaller than {MAX_REQUEST} bytes for the {operation} operation",
        ) from error
    except HTTPException as error:  # the client went away
        raise ServiceError("SerializationException", error.description, status=400) from error


def raw_path(environ: Mapping[str, Any]) -> str:
    """The path of a WSGI request as it was sent, still percent-encoded."""
    from_asgi = environ.get("asgi.scope", {}).get("raw_path")
    if from_asgi:
        return str(from_asgi.decode("latin-1")).partition("?")[0]
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if not raw:
        return quote(environ["PATH_INFO"].encode("latin-1"))
    # Absolute form ("GET http://host/path") is what proxies send.
    return str(raw).partition("?")[0] if raw.startswith("/") else urlsplit(raw).path or "/"
