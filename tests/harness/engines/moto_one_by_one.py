"""moto's server, one request at a time: it checks a condition and writes in two steps, and threads come between.

Usage: moto_one_by_one.py HOST PORT
"""

import sys
from collections.abc import Iterable
from threading import Lock
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

moto = DomainDispatcherApplication(create_backend_app)
lock = Lock()


def one_by_one(*request: Any) -> Iterable[bytes]:
    with lock:
        return list(moto(*request))


if __name__ == "__main__":
    run_simple(sys.argv[1], int(sys.argv[2]), one_by_one, threaded=True, request_handler=MotoRequestHandler)
