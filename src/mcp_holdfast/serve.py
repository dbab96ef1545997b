"""Check everything, then run gunicorn in this same process: nothing is imported twice.

A configuration that cannot work stops the start with one message and exit status 78. gunicorn is loaded only after the
environment was checked, since it fails on a malformed WEB_CONCURRENCY while it is being imported.
"""

import errno
import gc
import math
import os
import shlex
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from mcp_holdfast.libraries import importing_libraries

with importing_libraries():
    from mcp_holdfast import logs, metrics
    from mcp_holdfast.app import Plan, plan, start
    from mcp_holdfast.settings import EXIT_CONFIG, ConfigurationError, Problem, Settings, memory_problems


ENDS_WITHIN = 25
"""Seconds from the end of the drain; a worker that hangs, on its volume for example, is killed then."""

WORKER_CLASS = "mcp_holdfast.worker.Worker"


def main(gunicorn_arguments: Iterable[str]) -> None:
    """Run the server until it is stopped; the arguments are gunicorn's own."""
    signal.signal(signal.SIGTERM, _end)
    try:
        checked = plan(os.environ)
        _check_gunicorn_arguments(checked.settings.gunicorn_arguments)
        sys.argv = ["gunicorn", *gunicorn_arguments]
        with counting(checked.settings):
            _run(checked)
    except ConfigurationError as error:
        sys.stderr.write(f"Holdfast cannot start:\n{error}\n")
        sys.exit(EXIT_CONFIG)


def _end(number: int, _: object) -> NoReturn:
    """End at a signal while nobody is served yet: Linux ignores it for the first process of a container otherwise."""
    sys.exit(128 + number)


def _check_gunicorn_arguments(arguments: str) -> None:
    """Refuse what gunicorn would refuse with its whole usage and without the variable's name."""
    from gunicorn.config import Config

    def refuse(message: str) -> NoReturn:
        raise ConfigurationError([Problem("GUNICORN_CMD_ARGS", message, "Correct it; gunicorn --help lists its flags")])

    parser = Config().parser()
    parser.error = refuse
    try:
        parser.parse_args(shlex.split(arguments))
    except ValueError as error:
        refuse(str(error))


def counting(settings: Settings) -> AbstractContextManager[None]:
    """Let all workers count together, where anybody may ask for the sum.

    Raises:
        ConfigurationError: there is no temporary directory for it.

    """
    if settings.metrics_token is None:
        return nullcontext()
    try:
        return metrics.shared_by_processes(metrics.made_directory())
    except OSError as error:
        what = f"needs a temporary directory, and none can be written: {error.strerror}"
        remedy = "Mount one, as --tmpfs /tmp does, or remove it"
        raise ConfigurationError([Problem("HOLDFAST_METRICS_TOKEN", what, remedy)]) from None


def _run(checked: Plan) -> None:
    from gunicorn.app.base import Application

    class Server(Application):  # type: ignore[misc]  # gunicorn has no type information
        """Our defaults, then GUNICORN_CMD_ARGS, then the command line."""

        def init(self, parser: Any, options: Any, arguments: Any) -> dict[str, Any]:
            return gunicorn_settings(checked.settings)

        def load(self) -> Any:
            workers = self.cfg.workers
            problems = [*memory_problems(checked.settings.backend, workers), *_unusable(self.cfg)]
            problems += [problem for address in self.cfg.address if (problem := _address_problem(address))]
            if problems:
                raise ConfigurationError(problems)
            if workers > 1 and all(isinstance(address, tuple) for address in self.cfg.address):
                # A socket for each worker: the kernel spreads connections over them. Of one socket that all wait at,
                # the first to wake takes whatever is there, and keeps it as long as clients keep connections.
                self.cfg.set("reuse_port", True)
            return start(checked, workers=workers)

    Server("%(prog)s [OPTIONS]").run()


def _unusable(cfg: Any) -> list[Problem]:
    problems = []
    if cfg.workers < 1:
        problems.append(Problem("WEB_CONCURRENCY", "no worker would answer", "Give --workers 1 or more"))
    if cfg.worker_class_str != WORKER_CLASS:
        what = f"--worker-class {cfg.worker_class_str} cannot run this server"
        problems.append(Problem("GUNICORN_CMD_ARGS", what, "Remove it"))
    return problems


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """What we ask of gunicorn; its own flags and GUNICORN_CMD_ARGS come after."""
    return {
        "bind": f"0.0.0.0:{settings.port}",
        "workers": settings.workers,
        "worker_class": WORKER_CLASS,
        "preload_app": True,
        "pre_fork": _leave_to_the_collector_what_is_new,
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        # Longer than the idle time of common load balancers, which must be the first to close a connection.
        "keepalive": 75,
        "graceful_timeout": ENDS_WITHIN + math.ceil(settings.drain),
        "child_exit": lambda _, worker: metrics.process_ended(worker.pid),
        "logconfig_dict": logs.configuration(settings.log_level, settings.log_format, audits=settings.audit_log),
        # Both would need a writable root file system.
        "control_socket_disable": True,
        "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108  # memory, nothing to guess
    }


def _leave_to_the_collector_what_is_new(_arbiter: Any, _worker: Any) -> None:
    """Let no worker search for garbage among what is loaded already, which took a third of the time of a call."""
    gc.freeze()


def _address_problem(address: Any) -> Problem | None:
    """Whether an address that gunicorn is to listen on is taken; it would retry for seconds and then exit with 1."""
    if not isinstance(address, tuple):
        return None
    host, port = address[:2]
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return None
    except OSError as error:
        what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on: {error.strerror}"
        return Problem("PORT", f"{port} {what}", "Stop what listens there, or choose another port")


if __name__ == "__main__":
    main(sys.argv[1:])
