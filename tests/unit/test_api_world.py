"""The control plane over an in-memory store and a stub registry, for the other tests of the API."""

from __future__ import annotations

import base64
import io
import json
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from rie.api.handlers import handlers
from rie.api.service import create_app
from rie.clock import ManualClock
from rie.code.links import Links
from rie.code.s3 import S3Object
from rie.code.store import CodeStore
from rie.errors import ArchiveInvalid, ImageAccessDenied, ImageInvalid, ImageNotFound, RegistryUnavailable
from rie.functions.catalog import Catalog
from rie.functions.concurrency import Allocation
from rie.functions.domain import Code, Domain
from rie.functions.durable import DurableExecutions, Plan
from rie.functions.ledger import Ledger
from rie.model.function import Function, FunctionKey
from rie.model.image import Image
from rie.store import SqlStore

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"
FUNCTIONS = "/2015-03-31/functions"
LAYERS = "/2018-10-31/layers"
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


def zipped(
    files: Mapping[str, str | bytes] = MappingProxyType({"app.py": "def handler(event, context): pass"}),
) -> bytes:
    """A zip of these files, the same each time."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # Without the time of day, so that the same files are the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def encoded(content: bytes) -> str:
    """Bytes as JSON has them."""
    return base64.b64encode(content).decode()


class Bucket:
    """An S3 with one bucket, "bucket"."""

    def __init__(self) -> None:
        self.objects: dict[S3Object, bytes] = {}

    def fetch(self, place: S3Object, region: str, target: Path) -> None:
        """As `rie.code.s3.S3`."""
        if place not in self.objects:
            raise ArchiveInvalid(
                "Error occurred while GetObject. S3 Error Code: NoSuchKey. "
                "S3 Error Message: The specified key does not exist."
            )
        target.write_bytes(self.objects[place])


class World:
    """An application, and what its catalog told the rest of the manager."""

    def __init__(self, url: str = "sqlite://", find: Callable[[str, str], Image] = resolve, clock: Any = None) -> None:
        self.store = SqlStore(url)
        self.clock: Any = clock or ManualClock()
        self.submitted: list[Function] = []
        self.notices: list[tuple[FunctionKey, str, Function | None]] = []
        self.catalog = Catalog(
            self.store,
            find,
            self.submitted.append,
            lambda key, version, function: self.notices.append((key, version, function)),
            self.clock,
        )
        self.allocations: dict[str, Allocation] = {}
        self.ledger = Ledger(self.store.records, lambda kind, place, record: None)
        # Gone with the world; nothing of it is needed after that.
        self._directory = tempfile.TemporaryDirectory(prefix="rie-world-", ignore_cleanup_errors=True)
        self.code = CodeStore(Path(self._directory.name))
        self.links = Links(b"key", self.clock)
        self.bucket = Bucket()
        self.plans: dict[str, Plan] = {}
        self.on_plan: Callable[[Plan], object] = lambda plan: self.plans.update({plan.execution.execution_id: plan})
        self.durable = DurableExecutions(self.store.durable, self.clock, lambda plan: self.on_plan(plan))
        code = Code(self.code, self.bucket, self.links)
        self.domain = Domain.over(
            self.catalog,
            self.ledger,
            self.clock,
            code=code,
            inspect=lambda mapping, function: None,
            durable=self.durable,
            find_allocation=self.allocations.get,
        )
        self.usage = self.domain.usage
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

    def create_zip(self, name: str = "f", content: bytes | None = None, **more: Any) -> TestResponse:
        """CreateFunction of a zip function."""
        code = {"ZipFile": encoded(zipped() if content is None else content)}
        given = {"PackageType": "Zip", "Code": code, "Runtime": "python3.11", "Handler": "app.handler"}
        return self.create(name, **{**given, **more})

    def publish_layer(self, name: str = "l", content: bytes | None = None, **more: Any) -> TestResponse:
        """PublishLayerVersion."""
        body = {"Content": {"ZipFile": encoded(zipped() if content is None else content)}, **more}
        return self.call("POST", f"{LAYERS}/{name}/versions", body)

    def settle(self) -> None:
        """Let every deployment that was asked for end well."""
        while self.submitted:
            function = self.submitted.pop()
            if function.takes_snapshot:
                self.catalog.mark_published(function, None, is_optimised=True)
            else:
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
