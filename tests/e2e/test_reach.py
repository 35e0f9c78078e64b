"""What functions of the daemonless engine reach of the host: the configured endpoint, the manager's API, each other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.e2e.world import ROLE, Deployed, Manager, create, managing

Deploy = Callable[..., Deployed]
KEY, SECRET = "AKIAREACH", "reach-secret"


class Endpoint(BaseHTTPRequestHandler):
    """Says back what it was asked."""

    def do_GET(self) -> None:
        body = f"you asked for {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server on the host's loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def guarded(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    """A manager that asks for signatures and names the endpoint to functions."""
    settings = {"RIE_ACCESS_KEY_ID": KEY, "RIE_SECRET_ACCESS_KEY": SECRET, "RIE_FUNCTION_ENDPOINT_URL": endpoint}
    with managing(tmp_path_factory.mktemp("guarded"), "--engine", "oci", "--auth", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def caller(guarded: Manager, image: str) -> Deployed:
    """A function of the guarded manager."""
    client = boto3.client(
        "lambda",
        endpoint_url=guarded.endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    return create(client, image, FunctionName="caller")


@pytest.fixture(scope="module")
def variables(caller: Deployed) -> dict[str, str]:
    """What it sees."""
    found: dict[str, str] = caller.invoke({"verb": "describe"}).payload["variables"]
    return found


def test_function_code_reaches_the_endpoint_by_the_url_it_is_given(caller: Deployed, variables: dict[str, str]) -> None:
    answer = caller.invoke({"verb": "fetch", "url": f"{variables['AWS_ENDPOINT_URL']}/bucket/key"})
    assert answer.payload == {"status": 200, "body": "you asked for /bucket/key"}


def test_no_other_port_of_the_host_is_reached(caller: Deployed, endpoint: str, guarded: Manager) -> None:
    hosts = caller.invoke({"verb": "read", "path": "/etc/hosts"}).payload
    gateway = f"{hosts.split()[-2].rpartition('.')[0]}.1"
    for host in (gateway, "127.0.0.1", "127.0.0.2"):
        for port in (guarded.port, int(endpoint.rpartition(":")[2]), 22):
            assert caller.invoke({"verb": "connect", "host": host, "port": port}).payload is not None, (host, port)


def test_functions_invoke_each_other_with_their_roles_credentials(caller: Deployed, variables: dict[str, str]) -> None:
    deployed_by = caller.client
    url = f"{variables['AWS_ENDPOINT_URL_LAMBDA']}/2015-03-31/functions/callee/invocations"
    deployed_by.create_function(
        FunctionName="callee",
        Role=ROLE,
        PackageType="Image",
        Code={"ImageUri": deployed_by.get_function(FunctionName="caller")["Code"]["ImageUri"]},
    )
    deployed_by.get_waiter("function_active_v2").wait(FunctionName="callee", WaiterConfig={"Delay": 0.1})
    request = AWSRequest("POST", url, data=b'{"from": "caller"}')
    own = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    SigV4Auth(Credentials(*(variables[name] for name in own)), "lambda", "us-east-1").add_auth(request)
    event = {"verb": "fetch", "url": url, "body": '{"from": "caller"}', "headers": dict(request.headers)}
    assert caller.invoke(event).payload == {"status": 200, "body": '{"from": "caller"}'}


def test_the_managers_api_answers_no_function_without_a_signature(caller: Deployed, variables: dict[str, str]) -> None:
    api = variables["AWS_ENDPOINT_URL_LAMBDA"]
    for path in ("/2015-03-31/functions", "/2015-03-31/functions/caller/invocations", "/_rie/environments"):
        assert caller.invoke({"verb": "fetch", "url": f"{api}{path}"}).payload["status"] == 403, path


def test_without_auth_functions_see_nothing_of_the_managers_api(deploy: Deploy, manager: Manager) -> None:
    function = deploy()
    variables = function.invoke({"verb": "describe"}).payload["variables"]
    assert not [name for name in variables if name.startswith("AWS_ENDPOINT_URL")]
    for port in (801, 802, manager.port):
        assert function.invoke({"verb": "connect", "host": "127.0.0.2", "port": port}).payload is not None


def test_functions_with_the_same_vpc_settings_reach_each_other_and_others_do_not(deploy: Deploy) -> None:
    def settings(*groups: str) -> dict[str, Any]:
        return {"VpcConfig": {"SubnetIds": ["subnet-0a"], "SecurityGroupIds": list(groups)}}

    server = deploy(**settings("sg-1", "sg-2"))
    address = server.invoke({"verb": "listen", "port": 8000}).payload
    target = {"verb": "connect", "host": address, "port": 8000}
    assert deploy(**settings("sg-2", "sg-1")).invoke(target).payload is None
    assert deploy(**settings("sg-1")).invoke(target).payload is not None
    assert deploy().invoke(target).payload is not None


def test_functions_reach_the_services_that_run_beside_the_manager(
    image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with managing(tmp_path_factory.mktemp("aws"), "--engine", "oci", "--with-aws") as running:
        function = create(running.client(), image)
        url = function.invoke({"verb": "describe"}).payload["variables"]["AWS_ENDPOINT_URL"]
        answer = function.invoke({"verb": "fetch", "url": f"{url}/"}).payload
        assert answer["status"] == 200 and "<ListAllMyBucketsResult" in answer["body"]
