"""What the arguments say: options of AWS's emulator, the runtime's command, its handler."""

import os

from .errors import SettingsError

# Where a runtime without a command of its own is looked for, in the service's order after /var/runtime, which is
# where base images with a language keep theirs.
BOOTSTRAPS = ("/var/runtime/bootstrap", "/var/task/bootstrap", "/opt/bootstrap")
# The options of AWS's emulator, so that a command line for it is one for us; by what each stands for here.
OPTIONS = {
    "--runtime-interface-emulator-address": "RIE_ADDRESS",
    "--runtime-api-address": "RIE_RUNTIME_API",
    "--log-level": "",
}
SWITCHES = ("--enable-init-caching",)


def command_of(arguments: "list[str]", path: str) -> "tuple[tuple[str, ...], str]":
    """The runtime's command and the handler that the arguments name.

    One argument that is no program is the handler for the image's bootstrap file, as with the service's base images;
    otherwise the arguments are the command, and the last of several is the handler too.
    """
    if not arguments:
        return (), ""
    if len(arguments) == 1:
        name = arguments[0]
        if "/" not in name and not _is_program(name, path) and any(os.path.exists(place) for place in BOOTSTRAPS):
            return (), name
        return tuple(arguments), ""
    return tuple(arguments), arguments[-1]


def options(arguments: "list[str]", is_anywhere: bool) -> "tuple[dict[str, str], list[str]]":
    """What the options before the command say, or all of them, as for AWS's emulator; and the other arguments."""
    said: dict[str, str] = {}
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, has_value, value = argument.partition("=")
        if argument in SWITCHES:
            continue
        if name not in OPTIONS:
            rest.append(argument)
            if not is_anywhere:
                break
        elif has_value or waiting:
            said[OPTIONS[name]] = value if has_value else waiting.pop(0)
        else:
            raise SettingsError(f"cannot read {name}: nothing follows it")
    said.pop("", None)
    return said, rest + waiting


def _is_program(name: str, path: str) -> bool:
    return any(os.access(f"{directory}/{name}", os.X_OK) for directory in path.split(":") if directory)
