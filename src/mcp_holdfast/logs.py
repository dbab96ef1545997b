"""One event a line, in plain words with its fields; JSON where LOG_FORMAT=json. What opens anything is left out."""

import json
import logging
import re
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from mcp_holdfast import audit, outage

SHOWN_ONCE = "mcp_holdfast.shown_once"
FIELDS_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


QUOTES_WHAT_IS_SENT = (
    "aiobotocore",
    "botocore",
    "hpack",
    "httpcore",
    "httpcore2",
    "pymongo",
    "sse_starlette",
    "urllib3",
)
"""Libraries whose lines below WARNING are headers, bodies and signatures of requests, at whatever level they are."""

LOGS_CODES = (
    "asyncio",
    "authlib",
    "fastmcp",
    "gunicorn",
    "httpx",
    "httpx2",
    "mcp",
    "multipart",
    "starlette",
    "uvicorn",
)
"""Libraries that tell which code, state or session a line is about; what a payload logs itself may be as long."""

LEFT_OUT = "***"
BEHIND_A_BAR = "| "
QUERY = re.compile(r"""\?[\w.%~-]+=[^\s"'<>)\]\\]*""")
"""Of a URL: codes, states, and at some identity providers access tokens are in there."""

CREDENTIALS = re.compile(r"(://)[^/\s@\"']+@")
TOKENS = re.compile(r"(?<![\w-])(?=[\w-]++\.[\w-]++\.)([\w-]*-)?eyJ[\w-]+\.[\w-]+\.[\w-]*|\bholdfast_[0-9a-f]{64}\b")
"""JWTs (RFC 7519), and bearer tokens of machines. What has no two dots is passed over at once: strangers choose some of
the text, and of one that has many beginnings each would else be followed to its end.
"""

MADE_UP = re.compile(r"(?<![\w-])(?!([a-z_]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![\w-]))[\w-]{32,}")
"""What a random generator gives for a code, a state or a secret; not the id of a client, nor a long word."""


def without_secrets(text: str, logger: str) -> str:
    """Leave out of a line what looks like a secret: libraries log codes, states, and URLs with tokens in them."""
    text = TOKENS.sub(LEFT_OUT, CREDENTIALS.sub(rf"\1{LEFT_OUT}@", QUERY.sub(f"?{LEFT_OUT}", text)))
    return MADE_UP.sub(LEFT_OUT, text) if _is_of(logger, LOGS_CODES) else text


def _is_of(logger: str, names: tuple[str, ...]) -> bool:
    return logger.startswith(tuple(f"{name}." for name in names)) or logger in names


class WithoutQuotations(logging.Filter):
    """Passes over what libraries tell of each byte that they send and receive."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or not _is_of(record.name, QUOTES_WHAT_IS_SENT)


class WithoutQueries(logging.Filter):
    """Of requests in uvicorn's access log, which has a formatter of its own (gunicorn --access-logfile)."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(item.partition("?")[0] if isinstance(item, str) else item for item in record.args)
        return True


class WithoutNeedlessTraceback(logging.Filter):
    """Libraries log a traceback for what is only out of reach, which is noted and logged in a line of its own.

    py-key-value logs one for a record of another form, and it quotes what is in the record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if outage.noted() or record.name.startswith("key_value."):
            record.exc_info = record.exc_text = None
        return True


def visible(text: str) -> str:
    """Text with everything escaped that is not simply visible, such as line breaks and changes of direction.

    Strangers choose some of what is logged; they must not begin lines of their own, or have a terminal hide or forge
    one (CWE-117, CWE-150).
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class TextFormatter(logging.Formatter):
    """`2026-11-21T12:00:00 INFO message field=value`, and after it the lines of a traceback, each behind a bar.

    A traceback ends with what an exception says, which may hold what somebody sent.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        fields = {name: value for name, value in vars(record).items() if name not in FIELDS_OF_EVERY_RECORD}
        line = " ".join([super().formatMessage(record), *(f"{name}={value!s}" for name, value in fields.items())])
        # Not the other way round: behind what stands for a line break a token would not look like one.
        return visible(without_secrets(line, record.name))

    def format(self, record: logging.LogRecord) -> str:
        message, *traceback = super().format(record).split("\n")
        quoted = [f"{BEHIND_A_BAR}{visible(without_secrets(line, record.name))}" for line in traceback]
        return "\n".join([message, *quoted])


class JsonLines(JsonFormatter):
    """An object a line."""

    def format(self, record: logging.LogRecord) -> str:
        # Text by text: of a whole line, what is left out could begin in the middle of an escape.
        return json.dumps(_without_secrets_in(json.loads(super().format(record)), record.name))


def _without_secrets_in(value: Any, logger: str) -> Any:
    if isinstance(value, str):
        return without_secrets(value, logger)
    if isinstance(value, list):
        return [_without_secrets_in(item, logger) for item in value]
    if isinstance(value, dict):
        return {without_secrets(name, logger): _without_secrets_in(item, logger) for name, item in value.items()}
    return value


def configuration(level: str, style: str, *, audits: bool = True) -> dict[str, Any]:
    """A logging.config dictionary: everything to stderr, ours and the server's from `level` on, others from WARNING.

    Events of the audit log are JSON whatever the style, and do not depend on the level.
    """
    formatters = {
        "text": {"()": TextFormatter},
        "json": {
            "()": JsonLines,
            "fmt": "%(levelname)s %(name)s %(message)s",
            "timestamp": True,
            "rename_fields": {"levelname": "level", "name": "logger"},
        },
        "audit": {
            "()": JsonLines,
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
        "filters": {
            "tracebacks": {"()": WithoutNeedlessTraceback},
            "quotations": {"()": WithoutQuotations},
            "queries": {"()": WithoutQueries},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": style,
                "filters": ["quotations", "tracebacks"],
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
            "uvicorn.access": {"filters": ["queries"]},
            # A PIN that was made up is shown once, whatever the level.
            SHOWN_ONCE: {"level": "INFO"},
            audit.LOGGER: {"level": "INFO" if audits else "CRITICAL", "handlers": ["audit"], "propagate": False},
        },
    }
