"""`rie serve`: run the manager."""

from __future__ import annotations

import os

from rie.cli import serve_options as options

EXAMPLE = (
    "Example: rie serve --port 9000 --data ./rie-data, then: "
    "aws lambda list-functions --endpoint-url http://127.0.0.1:9000"
)


def serve(
    host: options.Host = None,
    port: options.Port = None,
    engine: options.Engine = None,
    data: options.Data = None,
    idle: options.Idle = None,
    concurrency: options.Concurrency = None,
    memory: options.Memory = None,
    auth: options.Auth = None,
    keys: options.Keys = None,
    insecure_no_auth: options.InsecureNoAuth = None,
    async_delay_scale: options.AsyncDelayScale = None,
    runtime: options.Runtimes = None,
    with_aws: options.WithAws = None,
    aws_port: options.AwsPort = None,
    routes: options.Routes = None,
) -> None:
    """Serve the Lambda API until SIGTERM or Ctrl-C.

    Every setting can be a variable too: RIE_HOST, RIE_PORT, RIE_ENGINE, RIE_DATA, RIE_DATABASE, RIE_REGION,
    RIE_ACCOUNT, RIE_KEEP_ALIVE (learned, fixed), RIE_IDLE_S, RIE_FREEZE_S, RIE_NETWORK, RIE_CONCURRENCY,
    RIE_UNRESERVED, RIE_MEMORY_MB, RIE_DRAIN_S, RIE_ASYNC_DELAY_SCALE, RIE_RUNTIMES, RIE_AUTH, RIE_KEYS,
    RIE_INSECURE_NO_AUTH, RIE_ROLE_CREDENTIALS (auto, own, sts, none), RIE_FUNCTION_ENDPOINT_URL, RIE_URLS,
    RIE_URL_NEEDS_INVOKE (1: as AWS asks of new URLs), RIE_STREAM_MIB_PER_S, RIE_WITH_AWS, RIE_AWS_PORT, RIE_ROUTES,
    RIE_IMAGES_UNUSED_MB, RIE_DISK_FREE_MB, RIE_LOG_FUNCTION_MB, RIE_LOG_TOTAL_MB, RIE_LOG_RETENTION_DAYS,
    RIE_LOG_KB_PER_S, RIE_LOG_DELIVERY (auto, on, off). RIE_ACCESS_KEY_ID and RIE_SECRET_ACCESS_KEY are one more
    access key, the account's root. RIE_CRIU is the criu that takes snapshots (SnapStart), if it is not on the PATH.
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
