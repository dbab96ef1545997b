"""One event a line, in plain words with its fields; JSON where LOG_FORMAT=json."""

import logging
from typing import Any

from mcp_holdfast import audit, outage

SHOWN_ONCE = "mcp_holdfast.shown_once"
FIELDS_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


# Strangers choose some of what is logged; they must not begin lines of their own (CWE-117).
ESCAPED = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {0x2028: r"\u2028", 0x2029: r"\u2029"}


class WithoutNeedlessTraceback(logging.Filter):
    """Libraries log a traceback for what is only out of reach, which is noted and logged in a line of its own.

    py-key-value logs one for a record of another form, and it quotes what is in the record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if outage.noted() or record.name.startswith("key_value."):
            record.exc_info = record.exc_text = None
        return True


class TextFormatter(logging.Formatter):
    """`2026-11-21T12:00:00 INFO message field=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        fields = {name: value for name, value in vars(record).items() if name not in FIELDS_OF_EVERY_RECORD}
        line = " ".join([super().formatMessage(record), *(f"{name}={value!s}" for name, value in fields.items())])
        return line.translate(ESCAPED)


def configuration(level: str, style: str, *, audits: bool = True) -> dict[str, Any]:
    """A logging.config dictionary: everything to stderr, ours and the server's from `level` on, others from WARNING.

    Events of the audit log are JSON whatever the style, and do not depend on the level.
    """
    formatters = {
        "text": {"()": TextFormatter},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(levelname)s %(name)s %(message)s",
            "timestamp": True,
            "rename_fields": {"levelname": "level", "name": "logger"},
        },
        "audit": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(name)s %(message)s",
            "timestamp": True,
            "rename_fields": {"name": "logger", "message": "event"},
        },
    }
    ours = {"level": level.upper(), "handlers": ["stderr"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": formatters,
        "filters": {"tracebacks": {"()": WithoutNeedlessTraceback}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": style,
                "filters": ["tracebacks"],
                "stream": "ext://sys.stderr",
            },
            "audit": {"class": "logging.StreamHandler", "formatter": "audit", "stream": "ext://sys.stderr"},
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        # FastMCP would draw its own log lines with rich; gunicorn lends its handlers to uvicorn, so it needs its own.
        "loggers": {
            **dict.fromkeys(("mcp_holdfast", "gunicorn.error", "fastmcp"), ours),
            # A traceback each time that a discovery document cannot be had; what it means is told in one line of ours.
            "fastmcp.server.auth.oidc_proxy": {"level": "CRITICAL"},
            # A PIN that was made up is shown once, whatever the level.
            SHOWN_ONCE: {"level": "INFO"},
            audit.LOGGER: {"level": "INFO" if audits else "CRITICAL", "handlers": ["audit"], "propagate": False},
        },
    }
