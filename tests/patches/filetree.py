"""A file tree store as the server opens it, its files, and what it asks of the operating system."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from key_value.aio._utils.serialization import SerializationAdapter
from key_value.aio.stores.filetree import (
    FileTreeStore,
    FileTreeV1CollectionSanitizationStrategy,
    FileTreeV1KeySanitizationStrategy,
)


def open_store(
    data_directory: Path,
    *,
    metadata_directory: Path | None = None,
    serialization_adapter: SerializationAdapter | None = None,
) -> FileTreeStore:
    return FileTreeStore(
        data_directory=data_directory,
        metadata_directory=metadata_directory,
        serialization_adapter=serialization_adapter,
        default_collection="codes",
        key_sanitization_strategy=FileTreeV1KeySanitizationStrategy(Path("/")),
        collection_sanitization_strategy=FileTreeV1CollectionSanitizationStrategy(Path("/")),
    )


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@dataclass(frozen=True)
class SystemCall:
    name: str
    path: Path
    thread: int


@dataclass
class SystemCalls:
    """The calls that make a change visible or durable, in order."""

    calls: list[SystemCall] = field(default_factory=list)

    def record(self, name: str, path: Path) -> None:
        self.calls.append(SystemCall(name, path, threading.get_ident()))

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        return ((call.name, call.path) for call in self.calls)

    @property
    def threads(self) -> set[int]:
        return {call.thread for call in self.calls}

    def clear(self) -> None:
        self.calls.clear()


def watch_system_calls(monkeypatch: pytest.MonkeyPatch) -> SystemCalls:
    """Record fsync, mkdir, rename and unlink, and do them."""
    seen = SystemCalls()
    fsync, mkdir, replace, unlink = os.fsync, os.mkdir, os.replace, os.unlink

    def watched_fsync(fd: int) -> None:
        seen.record("fsync", Path(f"/proc/self/fd/{fd}").readlink())
        fsync(fd)

    def watched_mkdir(path: Any, *args: Any, **kwargs: Any) -> None:
        mkdir(path, *args, **kwargs)
        seen.record("mkdir", Path(path))

    def watched_replace(src: Any, dst: Any) -> None:
        replace(src, dst)
        seen.record("rename", Path(dst))

    def watched_unlink(path: Any) -> None:
        unlink(path)
        seen.record("unlink", Path(path))

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "mkdir", watched_mkdir)
    monkeypatch.setattr(os, "replace", watched_replace)
    monkeypatch.setattr(os, "unlink", watched_unlink)
    return seen


def lose_rename_replies(monkeypatch: pytest.MonkeyPatch, *, then_found: bytes | None = None) -> None:
    """Do every rename, then report ENOENT, as NFS does for a repeated request.

    `then_found` is what another writer has put into the target by then.
    """
    replace = os.replace

    def replace_and_lose_reply(src: Any, dst: Any) -> None:
        replace(src, dst)
        if then_found is not None:
            Path(dst).write_bytes(then_found)
        raise FileNotFoundError(2, "No such file or directory", os.fspath(src))

    monkeypatch.setattr(os, "replace", replace_and_lose_reply)
