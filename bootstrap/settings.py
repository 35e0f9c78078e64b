"""What the bootstrap was told: read once from the environment and the arguments, checked, and never again looked up."""

import os
import time

from .command_line import command_of, options
from .errors import SettingsError
from .ids import new_id
from .packing import unpack
from .records import Record, replace
from .wire import (
    CREDENTIALS_PATH,
    ENV_CREDENTIALS,
    ENV_LOG,
    ENV_LOG_FD,
    ENV_MEMORY_LIMIT,
    ENV_SOCKET,
    ENV_TEMPLATE,
    ENV_VARIABLES,
    EXTENSIONS,
    EXTENSIONS_OFF,
    LOG_FD,
    PRIVATE_VARIABLES,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

RUNTIME_API = "127.0.0.1:9001"
FRONT_DOOR = "0.0.0.0:8080"
EPHEMERAL_STORAGE = "AWS_LAMBDA_FUNCTION_EPHEMERAL_STORAGE"  # MB, as the function's configuration names it
MAX_ENVIRONMENTS = 64  # each has three listeners' worth of descriptors at rest, and a process's memory
UNPRIVILEGED = (993, 990)  # uid and gid of functions, as on the service

# What functions see unless the image sets it (service spec §3.8).
DEFAULT_VARIABLES = {
    "LANG": "en_US.UTF-8",
    "TZ": ":UTC",
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "AWS_REGION": "us-east-1",
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",  # so that a program that traces does not fail where nobody listens
    "AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1:2000",
    "_AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1",
    "_AWS_XRAY_DAEMON_PORT": "2000",
}
NOT_FOR_EXTENSIONS = frozenset(
    {
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_XRAY_DAEMON_ADDRESS",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
NOT_IN_SNAPSHOTS = ("AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME")  # as on the service
LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Settings(Record):
    """All of it. Addresses are (host, port); `command` empty means: look for a bootstrap file.

    `is_managed` says that a manager runs us: it names the request, checks events and knows the function's ARN.
    """

    function_name: str
    function_version: str
    memory_mb: int
    memory_limit_mb: int  # what the function may hold where the container has no limit of its own; 0: no matter
    timeout_s: float
    region: str
    account: str
    command: "tuple[str, ...]"
    working_directory: str
    variables: "dict[str, str]"
    runtime_api: "tuple[str, int]"
    front_door: "tuple[str, int]"
    socket_path: str
    log_path: str
    user: "tuple[int, int] | None"
    grace_s: float
    is_lazy: bool  # init waits for the first invocation
    max_concurrency: "int | None"  # None: one invocation at a time, with all that goes with it
    extensions: "tuple[str, ...]"  # paths of the external ones
    has_extensions_api: bool
    profile: str = "aws"
    has_http_mode: bool = False  # requests that are no Invoke are events of a function URL
    origins: "tuple[str, ...]" = ()  # whose pages may call us from a browser; "*" for all
    environments: int = 1  # how many there are behind the front door
    number: int = 1  # which of them this one is
    tmp_mb: int = 0  # what /tmp may hold; 0: no matter
    log_format: str = "Text"  # or "JSON"
    application_level: str = "INFO"  # of the lines that are written, where the format is JSON
    system_level: str = "INFO"  # likewise, of what the platform says
    is_template: bool = False  # a snapshot will be taken of us
    credentials: str = ""  # of the function's role, where it asks for them, as the answer
    watched: str = ""  # the directory whose changes restart the runtime

    @property
    def is_compat(self) -> bool:
        """Whether callers get what AWS's own emulator would answer."""
        return self.profile == "compat"

    @property
    def is_managed(self) -> bool:
        """Whether callers reach us through a manager's UNIX socket only."""
        return bool(self.socket_path)

    @property
    def is_provisioned(self) -> bool:
        """Whether the environment was started ahead of any invocation."""
        return self.variables.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "provisioned-concurrency"

    @property
    def is_from_snapshot(self) -> bool:
        """Whether the function runs in copies of what has initialised once."""
        return self.variables.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"

    @property
    def runtime_variables(self) -> "dict[str, str]":
        """What the runtime sees: of what is another in each copy of it, nothing."""
        if not self.is_from_snapshot:
            return self.variables
        return {name: value for name, value in self.variables.items() if name not in NOT_IN_SNAPSHOTS}

    @property
    def extension_variables(self) -> "dict[str, str]":
        """What extensions see: the runtime's variables less those that are about it (service spec §3.7)."""
        hidden = NOT_FOR_EXTENSIONS
        return {n: v for n, v in self.variables.items() if n not in hidden and not n.startswith("_")}

    def arn_for(self, name: str) -> str:
        """The ARN of the function that a caller named, where nothing else says it."""
        if self.is_compat:
            from .compat import function_arn

            return function_arn(self.function_name)
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{name}"


def read(environ: "Mapping[str, str]", arguments: "list[str]") -> Settings:
    """Settings from the process's environment and its arguments (without argv[0]). Raises SettingsError."""
    said, arguments = options(arguments, is_anywhere=environ.get("RIE_PROFILE") == "compat")
    environ = {**environ, **said}
    packed = environ.get(ENV_VARIABLES)
    seen = environ if packed is None else unpack(packed)
    command, handler = command_of(arguments, seen.get("PATH") or DEFAULT_VARIABLES["PATH"])
    profile, timeout_s = _choice(environ, "RIE_PROFILE", ("aws", "compat")), "3"
    if profile == "compat":
        from .compat import TIMEOUT_S, VARIABLES

        seen, timeout_s = {**VARIABLES, **seen}, str(TIMEOUT_S)
    variables = _variables(seen, handler, environ.get("RIE_RUNTIME_API", RUNTIME_API))
    if environ.get(ENV_CREDENTIALS):
        variables |= _credentials_endpoint(variables["AWS_LAMBDA_RUNTIME_API"])
    if profile != "compat" and _concurrency(seen) is None:  # where processes share a pipe, they cut into each other
        variables[ENV_LOG_FD] = str(LOG_FD)
    return Settings(
        function_name=variables["AWS_LAMBDA_FUNCTION_NAME"],
        function_version=variables["AWS_LAMBDA_FUNCTION_VERSION"],
        memory_mb=int(_number(variables, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 1)),
        memory_limit_mb=_memory_limit(environ, seen),
        timeout_s=_number(seen, "AWS_LAMBDA_FUNCTION_TIMEOUT", 0.001, default=timeout_s),
        region=variables["AWS_REGION"],
        account=seen.get("AWS_ACCOUNT_ID", "123456789012"),
        command=command,
        working_directory=environ.get("RIE_WORKING_DIRECTORY") or _working_directory(),
        variables=variables,
        runtime_api=_address(variables["AWS_LAMBDA_RUNTIME_API"]),
        front_door=_address(environ.get("RIE_ADDRESS", FRONT_DOOR)),
        socket_path=environ.get(ENV_SOCKET, ""),
        log_path=environ.get(ENV_LOG, ""),
        user=_user(environ.get("RIE_USER", "")),
        grace_s=_number(environ, "RIE_SHUTDOWN_GRACE_MS", 0, default="500") / 1e3,
        is_lazy=_choice(environ, "RIE_INIT", ("eager", "lazy")) == "lazy",
        max_concurrency=_concurrency(seen),
        extensions=_extensions(environ.get("RIE_EXTENSIONS") or EXTENSIONS),
        has_extensions_api=not os.path.exists(EXTENSIONS_OFF),
        profile=profile,
        has_http_mode=_is_on(environ, "RIE_HTTP") and not environ.get(ENV_SOCKET),
        origins=() if environ.get(ENV_SOCKET) else _origins(environ.get("RIE_CORS", "")),
        environments=1 if environ.get(ENV_SOCKET) else _environments(environ),
        tmp_mb=0 if environ.get(ENV_SOCKET) else int(_number(seen, EPHEMERAL_STORAGE, 0, default="0")),
        log_format="JSON" if variables.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON" else "Text",
        application_level=_application_level(variables),
        system_level=_choice(seen, "RIE_SYSTEM_LOG_LEVEL", ("INFO", "DEBUG", "WARN")),
        is_template=bool(environ.get(ENV_TEMPLATE)),
        credentials=environ.get(ENV_CREDENTIALS, ""),
        watched="" if environ.get(ENV_SOCKET) else _watched(environ.get("RIE_WATCH", "")),
    )


def _working_directory() -> str:
    """The image's WORKDIR, which is where we were started; where it has none, /var/task."""
    here = os.getcwd()
    return "/var/task" if here == "/" and os.path.isdir("/var/task") else here


def _variables(environ: "Mapping[str, str]", handler: str, runtime_api: str) -> "dict[str, str]":
    """The runtime's environment: ours less what is private, and the service's variables where the image has none."""
    variables = {name: value for name, value in environ.items() if name not in PRIVATE_VARIABLES}
    for name in CREDENTIALS:
        if not variables.get(name, "x"):
            del variables[name]  # an empty credential breaks SDKs; an absent one is looked for elsewhere
    if variables.get("HOME") == "/root":
        del variables["HOME"]  # set by container engines; the function is another user and can't read it
    for name, value in DEFAULT_VARIABLES.items():
        variables.setdefault(name, value)
    kind = "lambda-managed-instances" if variables.get("AWS_LAMBDA_MAX_CONCURRENCY") else "on-demand"
    variables.setdefault("AWS_LAMBDA_INITIALIZATION_TYPE", kind)
    handler = variables.pop("AWS_LAMBDA_FUNCTION_HANDLER", "") or variables.get("_HANDLER", "") or handler
    variables["_HANDLER"] = handler
    name = variables.setdefault("AWS_LAMBDA_FUNCTION_NAME", "function")
    version = variables.setdefault("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
    variables.setdefault("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
    variables.setdefault("AWS_DEFAULT_REGION", variables["AWS_REGION"])
    variables.setdefault("AWS_LAMBDA_LOG_GROUP_NAME", f"/aws/lambda/{name}")
    variables.setdefault("AWS_LAMBDA_LOG_STREAM_NAME", log_stream(version))
    variables.pop("AWS_LAMBDA_FUNCTION_TIMEOUT", None)
    variables.pop(EPHEMERAL_STORAGE, None)
    variables["AWS_LAMBDA_RUNTIME_API"] = variables["AWS_LAMBDA_METADATA_API"] = runtime_api
    variables["AWS_LAMBDA_METADATA_TOKEN"] = new_id()
    return variables


def _credentials_endpoint(runtime_api: str) -> "dict[str, str]":
    """Where SDKs fetch credentials: variables would hold those of the time of the snapshot for ever."""
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{runtime_api}{CREDENTIALS_PATH}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": new_id(),
    }


def _memory_limit(environ: "Mapping[str, str]", seen: "Mapping[str, str]") -> int:
    """Only a size that somebody asked for is a limit; the manager's is the kernel's to keep, or it says so."""
    if environ.get(ENV_SOCKET):
        return int(_number(environ, ENV_MEMORY_LIMIT, 0, default="0"))
    name = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"
    return int(_number(seen, name, 1)) if seen.get(name) else 0


def _concurrency(values: "Mapping[str, str]") -> "int | None":
    return int(_number(values, "AWS_LAMBDA_MAX_CONCURRENCY", 1)) if values.get("AWS_LAMBDA_MAX_CONCURRENCY") else None


def _environments(environ: "Mapping[str, str]") -> int:
    count = _number(environ, "RIE_ENVIRONMENTS", 1, default="1")
    if count != int(count) or count > MAX_ENVIRONMENTS:
        raise SettingsError(f"cannot read RIE_ENVIRONMENTS: it is a whole number from 1 to {MAX_ENVIRONMENTS}")
    return int(count)


def one_of_several(settings: Settings, number: int, runtime_api: "tuple[str, int]") -> Settings:
    """The settings of a further environment: its own address, log stream and token; all else is the same."""
    host = f"[{runtime_api[0]}]" if ":" in runtime_api[0] else runtime_api[0]
    address = f"{host}:{runtime_api[1]}"
    own = {
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_METADATA_API": address,
        "AWS_LAMBDA_METADATA_TOKEN": new_id(),
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream(settings.function_version),
    }
    return replace(settings, number=number, runtime_api=runtime_api, variables={**settings.variables, **own})


def log_stream(version: str) -> str:
    """A name as the service gives it."""
    return f"{time.strftime('%Y/%m/%d', time.gmtime())}/[{version}]{os.urandom(16).hex()}"


def _extensions(directory: str) -> "tuple[str, ...]":
    """The programs in a directory, in the order of their names; none if extensions are switched off."""
    if os.path.exists(EXTENSIONS_OFF) or not os.path.isdir(directory):
        return ()
    paths = sorted(f"{directory}/{name}" for name in os.listdir(directory))
    return tuple(path for path in paths if os.path.isfile(path))


def _number(values: "Mapping[str, str]", name: str, least: float, default: str = "") -> float:
    text = values.get(name) or default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number < 1e9:
        raise SettingsError(f"cannot read {name}: {text!r} is not a number of at least {least}")
    return number


def _choice(environ: "Mapping[str, str]", name: str, choices: "tuple[str, ...]") -> str:
    """One of a few words; the first is the default."""
    text = environ.get(name) or choices[0]
    if text not in choices:
        raise SettingsError(f"cannot read {name}: {text!r} is none of {', '.join(choices)}")
    return text


def _application_level(variables: "Mapping[str, str]") -> str:
    """A function's own variable: what is no level is as good as none."""
    level = variables.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    return level if level in LEVELS else "INFO"


def _origins(text: str) -> "tuple[str, ...]":
    origins = tuple(origin.rstrip("/") for origin in text.replace(",", " ").split())
    for origin in origins:
        if origin not in ("*", "null") and origin.count("/") != 2:
            raise SettingsError(
                f"cannot read RIE_CORS: {origin!r} is neither * nor an origin like http://localhost:3000"
            )
    return origins


def _watched(text: str) -> str:
    if text.lower() in ("", "0", "false"):
        return ""
    directory = "/var/task" if text.lower() in ("1", "true") else text
    if not os.path.isdir(directory):
        raise SettingsError(f"cannot watch {directory}: it is no directory")
    return directory


def _is_on(values: "Mapping[str, str]", name: str) -> bool:
    text = values.get(name, "").lower()
    if text not in ("", "0", "1", "false", "true"):
        raise SettingsError(f"cannot read {name}: {text!r} is neither 1 nor 0")
    return text in ("1", "true")


def _address(text: str) -> "tuple[str, int]":
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) < 65536:
        raise SettingsError(f"cannot read an address: {text!r} is not host:port")
    return host.strip("[]"), int(port)


def _user(text: str) -> "tuple[int, int] | None":
    """RIE_USER: "uid:gid" to run the function as, "root" or "image" to leave it as we are; only root can change it."""
    if os.geteuid() != 0 or text in ("root", "image"):
        return None
    if not text:
        return UNPRIVILEGED
    uid, colon, gid = text.partition(":")
    if not uid.isdigit() or (colon and not gid.isdigit()):
        raise SettingsError(f"cannot read RIE_USER: {text!r} is neither uid:gid nor root")
    return int(uid), int(gid or uid)
