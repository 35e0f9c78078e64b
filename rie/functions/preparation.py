"""What a configuration needs before it can serve: its image, its code unpacked, its layers merged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rie.code.store import CodeStore
from rie.engine.base import Mount
from rie.errors import ImageFault, RegistryUnavailable, RuntimeUnavailable
from rie.functions.runtimes import RuntimeImages, how_to_set
from rie.model.function import Configuration
from rie.model.image import Image

TASK = "/var/task"
OPT = "/opt"


class Preparation:
    """`resolve` and `prepare` are the engine's."""

    def __init__(
        self,
        resolve: Callable[[str, str], Awaitable[Image]],
        prepare: Callable[[Image], Awaitable[None]],
        runtimes: RuntimeImages,
        code: CodeStore,
    ) -> None:
        self._resolve = resolve
        self._prepare = prepare
        self._runtimes = runtimes
        self._code = code

    async def __call__(self, configuration: Configuration) -> Image:
        """Make all of it ready; the image to run, pinned. Raises ImageFault, RuntimeUnavailable, HostFault."""
        if configuration.is_zip:
            image = await self._runtime_image(configuration)
            await self.mounts(configuration)
            return image
        assert configuration.image is not None
        await self._prepare(configuration.image)
        return configuration.image

    async def mounts(self, configuration: Configuration) -> tuple[Mount, ...]:
        """What its sandboxes see of the host; unpacked and merged anew if it is gone. Raises HostFault."""
        if not configuration.is_zip:
            return ()
        return await asyncio.to_thread(self._mounts, configuration)

    def _mounts(self, configuration: Configuration) -> tuple[Mount, ...]:
        assert configuration.archive is not None
        self._code.ready(configuration.archives)
        mounts = [Mount(self._code.tree(configuration.archive), TASK)]
        if configuration.layers:
            mounts.append(Mount(self._code.merged([layer.archive for layer in configuration.layers]), OPT))
        return tuple(mounts)

    async def _runtime_image(self, configuration: Configuration) -> Image:
        """A pinned image stays what it is; otherwise the table's, as it is now."""
        runtime = configuration.runtime or ""
        try:
            image = configuration.image
            if image is None:
                image = await self._resolve(self._runtimes.reference(runtime), configuration.architecture)
            await self._prepare(image)
        except (ImageFault, RegistryUnavailable) as error:
            raise RuntimeUnavailable(f"cannot run {runtime}: {error}; {how_to_set(runtime)}") from error
        return image
