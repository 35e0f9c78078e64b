"""The options of `rie serve`; one that is not given is None, and left to its variable or default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Host = Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option(help="Port to listen on. [default: 9000]")]
Engine = Annotated[
    str | None,
    typer.Option(
        help="What runs the sandboxes: oci, docker or stub. [default: oci on Linux with root; else docker if it "
        "answers, else oci]"
    ),
]
Data = Annotated[Path | None, typer.Option(help="Where functions, logs and sandboxes are kept.")]
Idle = Annotated[
    float | None, typer.Option(help="Seconds an idle environment is kept warm. [default: what its calls teach, or 600]")
]
Concurrency = Annotated[int | None, typer.Option(help="Invocations that may run at a time. [default: 1000]")]
Memory = Annotated[
    int | None,
    typer.Option(help="MB that all environments together may be promised. [default: 90 % of the machine]"),
]
Auth = Annotated[
    bool | None,
    typer.Option("--auth", help="Answer signed requests only. Needed to listen on an address that others reach."),
]
Keys = Annotated[
    Path | None, typer.Option(help="The file of access keys, see `rie keys`. [default: keys.json in the data]")
]
InsecureNoAuth = Annotated[
    bool | None,
    typer.Option("--insecure-no-auth", help="Let everybody who reaches the port deploy and invoke."),
]
AsyncDelayScale = Annotated[
    float | None,
    typer.Option(help="Factor of what asynchronous retries wait for, to try them out: 0.01. [default: 1]"),
]
Runtimes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RUNTIME=IMAGE",
        help="The image that zip functions of a runtime run on, e.g. python3.12=127.0.0.1:5000/python:3.12. "
        "May be given several times.",
    ),
]
WithAws = Annotated[
    bool | None,
    typer.Option(
        "--with-aws",
        help="Run SQS, SNS, S3, EventBridge, Kinesis, DynamoDB … beside it (moto's server, in memory: what is in "
        "them is gone when it stops). Needs the extra rie\\[aws].",
    ),
]
AwsPort = Annotated[
    int | None, typer.Option(help="Port of --with-aws. [default: the one after --port, or any that is free]")
]
Routes = Annotated[Path | None, typer.Option(help="A TOML file of HTTP and REST APIs whose routes invoke functions.")]
