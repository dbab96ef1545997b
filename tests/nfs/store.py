"""A store as one of several machines sees it."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

from harness.waiting import HANGS_AFTER, eventually
from nfs.machine import LOGS, MOUNT_POINT, Machine

PORT = 7000
DIRECTORY = "store"
PROGRAM = Path(__file__).with_name("store_program.py")


class StoreFailed(Exception):
    """An operation of the store raised an error there."""


class StoreOnMachine:
    """Our own store on the mount of a machine, in a process there; all of them share DIRECTORY of the export."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.collection = "records"
        self._address = machine.address, PORT
        self._log = machine.directory / "store.log"
        detached = 'setsid "$@" >>"$0" 2>&1 </dev/null &'
        program = (sys.executable, str(PROGRAM), f"{MOUNT_POINT}/{DIRECTORY}", str(PORT))
        machine.run("sh", "-c", detached, f"{LOGS}/{self._log.name}", *program)
        eventually(self._is_listening, bool)

    def get(self, key: str) -> Any:
        return self._do("get", key=key)

    def put(self, key: str, value: dict[str, Any], ttl: float | None = None) -> None:
        self._do("put", key=key, value=value, ttl=ttl)

    def add(self, key: str, value: dict[str, Any], ttl: float | None = None) -> bool:
        return bool(self._do("add", key=key, value=value, ttl=ttl))

    def delete(self, key: str) -> None:
        self._do("delete", key=key)

    def _do(self, operation: str, **arguments: Any) -> Any:
        request = {"operation": operation, "arguments": {"collection": self.collection, **arguments}}
        with socket.create_connection(self._address, HANGS_AFTER) as connection, connection.makefile("rwb") as line:
            line.write(json.dumps(request).encode() + b"\n")
            line.flush()
            answer = json.loads(line.readline())
        if "error" in answer:
            raise StoreFailed(f"{operation}: {answer['error']}")
        return answer["result"]

    def _is_listening(self) -> bool:
        try:
            socket.create_connection(self._address, 1).close()
        except OSError:
            return False
        return True
