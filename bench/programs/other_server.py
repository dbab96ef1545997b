"""Serves Holdfast's application by another server: usage: other_server.py granian|uvicorn|CLASS.

CLASS is a worker class of gunicorn's, which is started as the image starts it but for that. The settings are those of
the environment, as for the image. Each has one worker, uvloop, and the garbage collector of the image.
"""

import gc
import os
import sys
from typing import Any

from mcp_holdfast import serve
from mcp_holdfast.app import plan, start

KEEP_ALIVE = 75
"""In seconds, as the image has it."""


def application() -> Any:
    """All that is loaded before there is a worker."""
    made = start(plan(os.environ), workers=1)
    gc.freeze()
    return made


def serve_by_uvicorn(port: int) -> None:
    import uvicorn

    uvicorn.run(
        application(),
        host="0.0.0.0",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
    )


def serve_by_granian(port: int) -> None:
    from granian import Granian  # type: ignore[import-not-found]  # only where this program runs
    from granian.constants import HTTPModes, Interfaces, Loops  # type: ignore[import-not-found]

    made = application()
    server = Granian(
        "holdfast",
        address="0.0.0.0",
        port=port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    server.serve(target_loader=lambda: made, wrap_loader=False)


def serve_by_gunicorn(worker_class: str) -> None:
    serve.WORKER_CLASS = worker_class
    serve.main([])


def main() -> None:
    (server,) = sys.argv[1:]
    port = int(os.environ["PORT"])
    if server == "granian":
        serve_by_granian(port)
    elif server == "uvicorn":
        serve_by_uvicorn(port)
    else:
        serve_by_gunicorn(server)


if __name__ == "__main__":
    main()
