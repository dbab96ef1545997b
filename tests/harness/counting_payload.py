"""A payload for HOLDFAST_SERVER whose import makes the server write down what it does to the files of its store.

Each operation that names a file, and each sync, goes to the file that FILE_OPERATIONS names. Reads, writes and closes
of what is open are not counted, nor is what the server does by itself every few seconds.
"""

import builtins
import fcntl
import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastmcp import FastMCP

STORE = Path(os.environ["FASTMCP_HOME"]).resolve() / "oauth-proxy"
NOT_PART_OF_A_REQUEST = frozenset({"holdfast", "holdfast_probes"})
NAMING = ("stat", "lstat", "access", "mkdir", "rename", "replace", "link", "unlink", "remove", "listdir", "scandir")

DONE = os.open(os.environ["FILE_OPERATIONS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

mcp: FastMCP = FastMCP("Counting")


@mcp.tool
def whoami() -> str:
    """Tell nothing: only that a tool was called matters."""
    return "somebody"


def path_of(named: Any, directory: int | None) -> Path:
    if isinstance(named, int):
        return Path(f"/proc/self/fd/{named}").readlink()
    below = Path() if directory is None else path_of(directory, None)
    return (below / os.fsdecode(named)).absolute()


def write_down(operation: str, named: Any, directory: int | None = None) -> None:
    path = path_of(named, directory)
    if path.is_relative_to(STORE) and not NOT_PART_OF_A_REQUEST & set(path.relative_to(STORE).parts[:1]):
        os.write(DONE, f"{operation}\n".encode())


def counted(operation: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def counting(named: Any, *arguments: Any, **options: Any) -> Any:
        write_down(operation, named, options.get("dir_fd", options.get("src_dir_fd")))
        return function(named, *arguments, **options)

    return counting


def counted_open(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def counting(named: Any, flags: int, *arguments: Any, **options: Any) -> Any:
        write_down("create" if flags & os.O_CREAT else "open", named, options.get("dir_fd"))
        return function(named, flags, *arguments, **options)

    return counting


def counted_io_open(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def counting(named: Any, *arguments: Any, **options: Any) -> Any:
        # A descriptor was counted when it was opened.
        if not isinstance(named, int):
            write_down("open", named)
        return function(named, *arguments, **options)

    return counting


for name in NAMING:
    setattr(os, name, counted(name, getattr(os, name)))
os.fsync = counted("fsync", os.fsync)
fcntl.flock = counted("lock", fcntl.flock)
os.open = counted_open(os.open)
builtins.open = io.open = counted_io_open(io.open)
