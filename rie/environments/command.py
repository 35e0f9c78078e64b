"""What a sandbox's bootstrap is told to run; pure."""

from __future__ import annotations

from bootstrap.wire import ENTRYPOINT
from rie.model.function import Configuration
from rie.model.image import Image

OWN_RUNTIME = "provided"  # runtimes of that name run the function's `bootstrap`, wherever it lies (spec §1.11)


def command_of(configuration: Configuration, image: Image) -> tuple[str, ...]:
    """Entrypoint and command of an image function; of a zip function its runtime's, with the handler as command.

    Empty: the bootstrap looks for the runtime's file, and takes the handler from _HANDLER.
    """
    overrides = configuration.image_config
    entry_point = image.entrypoint if overrides.entry_point is None else overrides.entry_point
    if entry_point[:1] == (ENTRYPOINT,):
        entry_point = entry_point[1:]  # the image brings a bootstrap of its own; the engine puts ours there
    if not configuration.is_zip:
        return (*entry_point, *(image.command if overrides.command is None else overrides.command))
    if not entry_point or (configuration.runtime or "").startswith(OWN_RUNTIME):
        return ()
    return (*entry_point, configuration.handler or "")
