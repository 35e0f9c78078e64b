"""The control plane over an in-memory store and a stub registry, for the other tests of the API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from rie.api.handlers import handlers
from rie.api.service import create_app
from rie.clock import ManualClock
from rie.errors import ImageAccessDenied, ImageInvalid, ImageNotFound, RegistryUnavailable
from rie.functions.catalog import Catalog
from rie.functions.domain import Domain
from rie.functions.ledger import Ledger
from rie.model.function import Function, FunctionKey
from rie.model.image import Image
from rie.store import SqlStore

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"
FUNCTIONS = "/2015-03-31/functions"
DIGEST = "a" * 64


def resolve(uri: str, architecture: str) -> Image:
    """A registry that has every image but a few telling ones."""
    if "missing" in uri:
        raise ImageNotFound(uri, "no such tag")
    if "broken" in uri:
        raise ImageInvalid(uri, "bad manifest")
    if "denied" in uri:
        raise ImageAccessDenied(uri, "403")
    if "down" in uri:
        raise RegistryUnavailable(f"cannot read {uri}: connection refused")
    if "bug" in uri:
        raise ZeroDivisionError("secret internals")
    return Image(f"reg/app@sha256:{DIGEST}", f"sha256:{DIGEST}", architecture)


class World:
    """An application, and what its catalog told the rest of the manager."""

    def __init__(self, url: str = "sqlite://", find: Callable[[str, str], Image] = resolve) -> None:
        self.store = SqlStore(url)
        self.clock = ManualClock()
        self.submitted: list[Function] = []
        self.notices: list[tuple[FunctionKey, str, Function | None]] = []
        self.catalog = Catalog(
            self.store,
            find,
            self.submitted.append,
            lambda key, version, function: self.notices.append((key, version, function)),
            self.clock,
        )
        self.ledger = Ledger(self.store.records, lambda kind, place, record: None)
        self.domain = Domain.over(self.catalog, self.ledger, self.clock, lambda mapping, function: None)
        self.app = create_app(handlers(self.domain))
        self.client = self.app.test_client()

    def call(self, method: str, path: str, body: object = None, **headers: str) -> TestResponse:
        """Send a request; a body that is no bytes goes as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        return self.client.open(path, method=method, data=data, headers=headers)

    def create(self, name: str = "f", **more: Any) -> TestResponse:
        """CreateFunction with the least that it needs, and more."""
        given = {"FunctionName": name, "Role": ROLE, "PackageType": "Image", "Code": {"ImageUri": "reg/app:1"}, **more}
        return self.call("POST", FUNCTIONS, {key: value for key, value in given.items() if value is not ...})

    def settle(self) -> None:
        """Let every deployment that was asked for end well."""
        while self.submitted:
            function = self.submitted.pop()
            self.catalog.mark_deployed(function.key, function.configuration.configuration_id)

    def active(self, name: str = "f", **more: Any) -> Mapping[str, Any]:
        """A function that is Active, as GetFunctionConfiguration shows it."""
        assert self.create(name, **more).status_code == 201
        self.settle()
        return dict(self.call("GET", f"{FUNCTIONS}/{name}/configuration").json)

    def configure(self, name: str = "f", **members: Any) -> TestResponse:
        """UpdateFunctionConfiguration."""
        return self.call("PUT", f"{FUNCTIONS}/{name}/configuration", members)

    @contextmanager
    def served(self) -> Iterator[str]:
        """The application on a port of this machine; yields its URL."""
        server = make_server("127.0.0.1", 0, self.app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def failure(response: TestResponse) -> tuple[int, str, dict[str, Any]]:
    """(status, error type, body) of an error answer."""
    assert response.headers["x-amzn-RequestId"]
    assert response.headers["Content-Type"] == "application/json"
    return response.status_code, response.headers["x-amzn-ErrorType"], dict(response.json)


def refusal(response: TestResponse) -> str:
    """The text of an InvalidParameterValueException."""
    status, kind, body = failure(response)
    assert (status, kind, body["Type"]) == (400, "InvalidParameterValueException", "User")
    return str(body["message"])


def breach(response: TestResponse) -> str:
    """The text of a ValidationException, which has no Type."""
    status, kind, body = failure(response)
    assert (status, kind, list(body)) == (400, "ValidationException", ["message"])
    return str(body["message"])


def test_a_world_begins_without_functions() -> None:
    assert World().call("GET", FUNCTIONS).json == {"Functions": []}
