"""The first process of a machine (see machine.py): runs the commands that come through the serial line.

A request and an answer are a line of JSON each: {"id", "command", "timeout"} and {"id", "status", "output"}, where the
status is null for a command that did not end in time. {"id", "clock"} sets the clock, in seconds since 1970.
"""

import json
import os
import subprocess
import threading
import time
import tty
from typing import Any

SERIAL_LINE = "/dev/ttyS0"
FILE_SYSTEMS = (
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tmpfs", "/run"),
    ("tmpfs", "/mnt"),
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def mount(file_system: str, directory: str) -> None:
    subprocess.run(["mount", "-t", file_system, file_system, directory], check=True)


def serve() -> None:
    line = os.open(SERIAL_LINE, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    sending = threading.Lock()

    def send(message: dict[str, object]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with sending:
            while data:
                data = data[os.write(line, data) :]

    def answer(request: dict[str, Any]) -> None:
        if "clock" in request:
            time.clock_settime(time.CLOCK_REALTIME, float(request["clock"]))
            send({"id": request["id"], "status": 0, "output": ""})
            return
        status, output = run(list(request["command"]), float(request["timeout"]))
        send({"id": request["id"], "status": status, "output": output})

    send({"id": 0, "status": 0, "output": ""})
    with open(line, "rb", buffering=0) as requests:  # noqa: PTH123  # a descriptor, not a path
        pending = b""
        while True:
            *complete, pending = (pending + requests.read(65536)).split(b"\n")
            for text in filter(None, complete):
                threading.Thread(target=answer, args=(json.loads(text),), daemon=True).start()


def run(command: list[str], timeout: float) -> tuple[int | None, str]:
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return None, ""
    except OSError as error:
        return 127, str(error)
    return result.returncode, result.stdout.decode(errors="replace")


if __name__ == "__main__":
    os.environ.update(PATH=PATH, HOME="/run", TMPDIR="/run", LANG="C.UTF-8")
    for file_system, directory in FILE_SYSTEMS:
        mount(file_system, directory)
    serve()
