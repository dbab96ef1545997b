"""Let each file operation of this process that names something below a directory take longer, as on a network volume.

Reads and writes of what is open already stay as they are.
"""

import builtins
import functools
import io
import os
import time
from collections.abc import Callable
from typing import Any

NAMING = ("open", "stat", "lstat", "access", "mkdir", "rename", "replace", "link", "unlink", "remove", "listdir")
SYNCING = ("fsync", "fdatasync")


def slow_down(directory: str, seconds: float) -> None:
    """From now on; `seconds` are for each operation, in the thread that does it."""
    within = os.path.realpath(directory)

    def is_within(path: Any) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(within)

    def slow(operation: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(operation)
        def slower(*arguments: Any, **options: Any) -> Any:
            if options.get("dir_fd", options.get("src_dir_fd")) is not None or is_within(arguments[0]):
                time.sleep(seconds)
            return operation(*arguments, **options)

        return slower

    def slow_sync(operation: Callable[[int], None]) -> Callable[[int], None]:
        def slower(descriptor: int) -> None:
            time.sleep(seconds)
            operation(descriptor)

        return slower

    for name in NAMING:
        setattr(os, name, slow(getattr(os, name)))
    for name in SYNCING:
        setattr(os, name, slow_sync(getattr(os, name)))
    builtins.open = io.open = slow(io.open)
