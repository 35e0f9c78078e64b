"""`rie serve`: run the manager."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = (
    "Example: rie serve --port 9000 --data ./rie-data, then: "
    "aws lambda list-functions --endpoint-url http://127.0.0.1:9000"
)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. [default: 9000]")] = None,
    engine: Annotated[
        str | None, typer.Option(help="What runs the sandboxes: oci, docker or stub. [default: oci on Linux with root]")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Where functions, logs and sandboxes are kept.")] = None,
    idle: Annotated[
        float | None,
        typer.Option(
            help="Seconds an idle environment is kept warm. [default: what each function's calls teach, or 600]"
        ),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(help="Invocations that may run at a time. [default: 1000]")] = None,
    memory: Annotated[
        int | None,
        typer.Option(help="MB that all environments together may be promised. [default: 90 % of the machine]"),
    ] = None,
    auth: Annotated[
        bool | None,
        typer.Option("--auth", help="Answer signed requests only. Needed to listen on an address that others reach."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="The file of access keys, see `rie keys`. [default: keys.json in the data]")
    ] = None,
    insecure_no_auth: Annotated[
        bool | None,
        typer.Option("--insecure-no-auth", help="Let everybody who reaches the port deploy and invoke."),
    ] = None,
    async_delay_scale: Annotated[
        float | None,
        typer.Option(help="Factor of what asynchronous retries wait for, to try them out: 0.01. [default: 1]"),
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUNTIME=IMAGE",
            help="The image that zip functions of a runtime run on, e.g. python3.12=127.0.0.1:5000/python:3.12. "
            "May be given several times.",
        ),
    ] = None,
    with_aws: Annotated[
        bool | None,
        typer.Option(
            "--with-aws",
            help="Run SQS, SNS, S3, EventBridge, Kinesis, DynamoDB … beside it (moto's server, in memory: what is in "
            "them is gone when it stops). Needs the extra rie\\[aws].",
        ),
    ] = None,
    aws_port: Annotated[
        int | None, typer.Option(help="Port of --with-aws. [default: the one after --port, or any that is free]")
    ] = None,
    routes: Annotated[
        Path | None, typer.Option(help="A TOML file of HTTP and REST APIs whose routes invoke functions.")
    ] = None,
) -> None:
    """Serve the Lambda API until SIGTERM or Ctrl-C.

    Every setting can be a variable too: RIE_HOST, RIE_PORT, RIE_ENGINE, RIE_DATA, RIE_DATABASE, RIE_REGION,
    RIE_ACCOUNT, RIE_KEEP_ALIVE (learned, fixed), RIE_IDLE_S, RIE_FREEZE_S, RIE_NETWORK, RIE_CONCURRENCY,
    RIE_UNRESERVED, RIE_MEMORY_MB, RIE_DRAIN_S, RIE_ASYNC_DELAY_SCALE, RIE_RUNTIMES, RIE_AUTH, RIE_KEYS,
    RIE_INSECURE_NO_AUTH, RIE_ROLE_CREDENTIALS (auto, own, sts, none), RIE_FUNCTION_ENDPOINT_URL, RIE_URLS,
    RIE_URL_NEEDS_INVOKE (1: as AWS asks of new URLs), RIE_STREAM_MIB_PER_S, RIE_WITH_AWS, RIE_AWS_PORT, RIE_ROUTES,
    RIE_IMAGES_UNUSED_MB, RIE_DISK_FREE_MB, RIE_LOG_FUNCTION_MB, RIE_LOG_TOTAL_MB, RIE_LOG_RETENTION_DAYS,
    RIE_LOG_KB_PER_S, RIE_LOG_DELIVERY (auto, on, off). RIE_ACCESS_KEY_ID and RIE_SECRET_ACCESS_KEY are one more
    access key, the account's root.
    """
    # Imported here: the server costs half a second that the other verbs need not pay.
    from rie import server, settings

    server.serve(
        settings.read(
            os.environ,
            host=host,
            port=port,
            engine=engine,
            data=data.absolute() if data else None,
            idle_s=idle,
            concurrency=concurrency,
            memory_mb=memory,
            auth=auth,
            keys=keys.absolute() if keys else None,
            insecure_no_auth=insecure_no_auth,
            async_delay_scale=async_delay_scale,
            runtimes=" ".join(runtime) if runtime else None,
            with_aws=with_aws,
            aws_port=aws_port,
            routes=routes.absolute() if routes else None,
        )
    )
