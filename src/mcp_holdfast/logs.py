"""One event a line, in plain words with its fields; JSON where LOG_FORMAT=json."""

import logging
from typing import Any

SHOWN_ONCE = "mcp_holdfast.shown_once"
FIELDS_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class TextFormatter(logging.Formatter):
    """`2026-11-21T12:00:00 INFO message field=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        fields = {name: value for name, value in vars(record).items() if name not in FIELDS_OF_EVERY_RECORD}
        return " ".join([super().formatMessage(record), *(f"{name}={value!s}" for name, value in fields.items())])


def configuration(level: str, style: str) -> dict[str, Any]:
    """A logging.config dictionary: everything to stderr, ours and the server's from `level` on, others from WARNING."""
    formatters = {
        "text": {"()": TextFormatter},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(levelname)s %(name)s %(message)s",
            "timestamp": True,
            "rename_fields": {"levelname": "level", "name": "logger"},
        },
    }
    ours = {"level": level.upper(), "handlers": ["stderr"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": formatters,
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": style, "stream": "ext://sys.stderr"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        # FastMCP would draw its own log lines with rich; gunicorn lends its handlers to uvicorn, so it needs its own.
        "loggers": {
            **dict.fromkeys(("mcp_holdfast", "gunicorn.error", "fastmcp"), ours),
            # A PIN that was made up is shown once, whatever the level.
            SHOWN_ONCE: {"level": "INFO"},
        },
    }
