"""Paths, header names and limits on the wire: the one place that the bootstrap and the manager both read.

Imports nothing. Sources: the service's Runtime API (2018-06-01) and Invoke API (2015-03-31).
"""

# Front door, what callers of the service see.
INVOKE_PREFIX = "/2015-03-31/functions/"
INVOKE_SUFFIX = "/invocations"
STREAM_PREFIX = "/2021-11-15/functions/"
STREAM_SUFFIX = "/response-streaming-invocations"
ASYNC_PREFIX = "/2014-11-13/functions/"
ASYNC_SUFFIX = "/invoke-async"

# Front door, between the manager and its sandboxes only (never part of the service's API).
INIT_PATH = "/_rie/init"  # GET: answers {"status", "durationMs", "errorType"?} once the init phase has ended

# Runtime API.
RUNTIME_PREFIX = "/2018-06-01/runtime/"
EXTENSION_PREFIX = "/2020-01-01/extension/"
PING_PATH = "/2018-06-01/ping"
TELEMETRY_PATH = "/2022-07-01/telemetry"
LOGS_PATH = "/2020-08-15/logs"
TELEMETRY_API, LOGS_API = "Telemetry", "Logs"  # as refusals and log lines name them
METADATA_PATH = "/2026-01-15/metadata/execution-environment"

IDLE_PATH = "/_rie/idle"  # GET: answers {} once the environment waits for an invocation

# Headers of an invocation, caller's side.
REQUEST_ID = "X-Amzn-RequestId"
TRACE_ID = "X-Amzn-Trace-Id"
INVOCATION_TYPE = "X-Amz-Invocation-Type"
LOG_TYPE = "X-Amz-Log-Type"
LOG_RESULT = "X-Amz-Log-Result"
CLIENT_CONTEXT = "X-Amz-Client-Context"
TENANT_ID = "X-Amz-Tenant-Id"
FUNCTION_ERROR = "X-Amz-Function-Error"
EXECUTED_VERSION = "X-Amz-Executed-Version"
ERROR_TYPE = "X-Amzn-ErrorType"
# The identity of Cognito that the function shall see, as JSON; the service takes it from the caller's credentials.
COGNITO_IDENTITY = "X-Rie-Cognito-Identity"
# Manager to sandbox: the ARN exactly as the caller addressed the function (qualifier included).
FUNCTION_ARN = "X-Rie-Function-Arn"
# Manager to sandbox: how long the invocation may wait for its turn, in seconds; after that the answer is 409.
PATIENCE = "X-Rie-Patience"
# Sandbox to manager: what REPORT says, as "duration_ms;billed_ms;max_memory_mb;init_ms-or-empty;status".
REPORT = "X-Rie-Report"
# Sandbox to manager, of an answer in pieces: the content type that the runtime gave it, as a header; and as trailers
# REPORT, LOG_RESULT and, if it failed on its way, the error's type and the error itself in base64.
STREAM_TYPE = "X-Rie-Stream-Type"
STREAM_ERROR = "X-Rie-Stream-Error"
STREAM_ERROR_BODY = "X-Rie-Stream-Error-Body"

# Headers of an invocation, runtime's side.
RUNTIME_REQUEST_ID = "Lambda-Runtime-Aws-Request-Id"
RUNTIME_DEADLINE_MS = "Lambda-Runtime-Deadline-Ms"
RUNTIME_FUNCTION_ARN = "Lambda-Runtime-Invoked-Function-Arn"
RUNTIME_TRACE_ID = "Lambda-Runtime-Trace-Id"
RUNTIME_CLIENT_CONTEXT = "Lambda-Runtime-Client-Context"
RUNTIME_TENANT_ID = "Lambda-Runtime-Aws-Tenant-Id"
RUNTIME_INVOCATION_ID = "Lambda-Runtime-Invocation-Id"  # names the delivery, where the request id names the call
RUNTIME_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"

# Where AWS's runtime clients write framed log records to (bootstrap.frames): the number of a descriptor.
ENV_LOG_FD = "_LAMBDA_TELEMETRY_LOG_FD"
LOG_FD = 62  # as on the service

# Limits of the service, bytes.
MAX_EVENT = 6_291_456  # a synchronous request
MAX_RESPONSE = 6_291_556  # 6 MiB and 100 bytes
MAX_STREAM = 209_715_200  # a streamed answer
MAX_LOG_TAIL = 4_096
MAX_CLIENT_CONTEXT = 3_583
MAX_TENANT_ID = 256  # characters
MAX_HEADERS = 1_179_648  # clients send single header lines of up to 1 MiB

# Environment of the bootstrap when the manager runs it.
ENV_SOCKET = "RIE_SOCKET"  # path of the UNIX socket that the front door listens on, instead of TCP port 8080
ENV_LOG = "RIE_LOG"  # path of the FIFO or file that log lines are written to, instead of standard output
# MB that the function may hold, where the manager has nobody but the bootstrap to keep it to that.
ENV_MEMORY_LIMIT = "RIE_MEMORY_LIMIT_MB"
DIR_IN_SANDBOX = "/run/rie"  # where the manager mounts the directory that holds both
SOCKET_NAME = "front"
LOG_NAME = "log"
LINE_JOINT = "\x1e"  # stands for a newline within one record, on the log that the manager reads
EXTENSIONS = "/opt/extensions"  # where external extensions stand in an image
EXTENSIONS_OFF = "/opt/disable-extensions-jwigqn8j"  # if this is there, there are none, and no API
BUNDLE = "/opt/rie"  # where the bootstrap and its interpreter stand in an image
ENTRYPOINT = "/opt/rie/bootstrap"
ENV_VARIABLES = "RIE_VARIABLES"  # what the function shall see, packed (bootstrap.packing)
# What configures the bootstrap; none of it reaches the function, and no function's variable may set it.
PRIVATE_VARIABLES = (
    ENV_SOCKET,
    ENV_LOG,
    ENV_VARIABLES,
    ENV_MEMORY_LIMIT,
    "RIE_USER",
    "RIE_ADDRESS",
    "RIE_RUNTIME_API",
    "RIE_INIT",
    "RIE_EXTENSIONS",
    "RIE_WORKING_DIRECTORY",
    "RIE_SHUTDOWN_GRACE_MS",
    "RIE_PROFILE",
    "RIE_HTTP",
    "RIE_CORS",
    "RIE_WATCH",
    "RIE_ENVIRONMENTS",
    "RIE_SYSTEM_LOG_LEVEL",
)
RUNTIME_COGNITO_IDENTITY = "Lambda-Runtime-Cognito-Identity"
RUNTIME_ERROR_BODY = "Lambda-Runtime-Function-Error-Body"  # a trailer, base64
