"""The control plane's Flask application: route, parse, validate, handle, render."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from rie.api.context import ANONYMOUS, RequestContext, signer
from rie.api.errors import as_service_error, render_error
from rie.api.model import operation_model
from rie.api.parse import Params, Parts, parse
from rie.api.render import Rendered, render
from rie.api.routes import Match, Query, match
from rie.api.validate import validate
from rie.errors import ServiceError

Handler = Callable[[RequestContext, Params], Mapping[str, Any]]
"""Answers one operation: members in, members out. Raises ServiceError, ImageFault, HostFault."""

MAX_REQUEST = 70_167_211  # bytes of a whole request body, AWS limit: a 50 MB zip in base64, in JSON

_log = logging.getLogger(__name__)


def create_app(handlers: Mapping[str, Handler], *, account: str = "123456789012", region: str = "us-east-1") -> Flask:
    """The application; `handlers` by operation. `account` and `region` hold where a signature names none.

    Needs the raw path: from gunicorn and werkzeug (RAW_URI) or an ASGI server (`raw_path`). Where there is neither,
    the path is encoded again, and a `%2F` in a label is lost.
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST - 1

    # Before Flask's routing, not a view of it: werkzeug routes on the decoded path, and answers errors in HTML.
    @app.before_request
    def answer() -> Response:
        key, where = signer(request.headers.get("Authorization"), request.args.get("X-Amz-Credential")) or (None, None)
        base_url = f"{request.scheme}://{request.host}"
        context = RequestContext(account, where or region, str(uuid.uuid4()), key or ANONYMOUS, base_url)
        status, headers, body = _answer(handlers, context, request)
        return Response(body, status, headers)

    return app


def _answer(handlers: Mapping[str, Handler], context: RequestContext, request: Request) -> Rendered:
    """The response, whatever happens on the way to it."""
    what = f"{request.method} {request.path}"
    try:
        query = parse_qs(request.query_string.decode("latin-1"), keep_blank_values=True)
        found = match(request.method, raw_path(request.environ), query)
        what = found.operation
        handler = handlers.get(found.operation)
        if handler is None:
            raise ServiceError("NotImplementedException", f"The operation {what} is not available here.")
        return _call(handler, found, query, context, request)
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


def _call(handler: Handler, found: Match, query: Query, context: RequestContext, request: Request) -> Rendered:
    operation = operation_model(found.operation)
    body = _body(found.operation, request)
    params = parse(operation, Parts(found.labels, query, dict(request.headers), body))
    validate(operation, params)
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
