"""What is written of a record: nothing that opens anything, and what a payload says as it is."""

import json
import logging
import logging.config

import pytest

from mcp_holdfast import logs
from mcp_holdfast.auth.machine_tokens import PREFIX

CODE = "xtFjepRyweuvjhEEAeIcHu-vWZ5tqHplLX3Vmhzl4_Y"
BEGINS_AS_A_WORD = "ab_c-" + CODE[5:]
BEGINS_AS_AN_ID = "123e4567-e89b-12d3-a456-426614174000-" + CODE[:7]
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl-_"
TOKEN = f"{PREFIX}{'5e' * 32}"


@pytest.fixture(params=["text", "json"])
def formatter(request: pytest.FixtureRequest) -> logging.Formatter:
    """As dictConfig makes it."""
    configuration = logs.configuration("debug", request.param)
    made: logging.Formatter = logging.config.DictConfigurator(configuration).configure_formatter(
        configuration["formatters"][request.param]
    )
    return made


def written(formatter: logging.Formatter, message: str, logger: str = "fastmcp.server", **fields: object) -> str:
    record = logging.makeLogRecord(
        {"name": logger, "levelno": logging.DEBUG, "levelname": "DEBUG", "msg": message, **fields}
    )
    return formatter.format(record)


@pytest.mark.parametrize(
    ("message", "secret"),
    [
        (f"Authorization code not found: {CODE}", CODE),
        (f"Forwarding to client callback for transaction {CODE}", CODE),
        (f"Generated proxy PKCE for transaction {BEGINS_AS_A_WORD} (forwarding)", BEGINS_AS_A_WORD),
        (f"Generated proxy PKCE for transaction {BEGINS_AS_AN_ID} (forwarding)", BEGINS_AS_AN_ID),
        (f"HTTP Request: GET https://idp.example/tokeninfo?access_token={JWT[:12]}x", JWT[:12]),
        ("callback https://app.example/cb?code=4%2F0AbC&state=a%20b here", "4%2F0AbC"),
        (f"token is {JWT}", JWT),
        (f"token is {TOKEN}", TOKEN),
        (f"token is for-{JWT}", JWT),
        (f"token is\n{JWT}", JWT),
        (f"token is\t{TOKEN}", TOKEN),
        (f"code is\n{CODE}", CODE),
        ("connecting to redis://user:p%40ss@engine:6379/0", "p%40ss"),
    ],
)
def test_what_opens_anything_is_left_out(formatter: logging.Formatter, message: str, secret: str) -> None:
    for line in (
        written(formatter, message),
        written(formatter, "%s", args=(message,)),
        written(formatter, "failed", reason=message),
        written(formatter, "failed", exc_text=f"Traceback\nValueError: {message}"),
    ):
        assert secret not in line
        assert logs.LEFT_OUT in line
        assert len(line.splitlines()) == 1 or "Traceback" in line


@pytest.mark.parametrize(
    "message", [f"token is {JWT}", f"token is {TOKEN}", "https://user:p%40ss@host/", "/x?state=s1"]
)
def test_of_a_payload_too(formatter: logging.Formatter, message: str) -> None:
    assert message.rpartition(" ")[2] not in written(formatter, message, logger="a_payload")


@pytest.mark.parametrize(
    ("logger", "message"),
    [
        ("a_payload", "built 3f786850e387550fdab836ed7e6dc881de23001b"),
        ("key_value.aio", f"Damaged file /data/oauth-proxy/{'ab12' * 16}.json was renamed"),
        ("fastmcp.server", "Registered client 123e4567-e89b-12d3-a456-426614174000 with 1 redirect URIs"),
        ("fastmcp.server", "is it so? yes: https://example.com/authorize"),
        ("fastmcp.server", "a_long_name_of_a_function_that_is_in_a_traceback"),
    ],
)
def test_the_rest_stays(formatter: logging.Formatter, logger: str, message: str) -> None:
    assert message in written(formatter, message, logger=logger)


def test_a_line_of_json_stays_one() -> None:
    formatter = logs.JsonLines("%(levelname)s %(name)s %(message)s")
    line = json.loads(
        written(formatter, f'"quoted": "https://u:p@host/?code={CODE}", {JWT}', reason=[CODE, {"x": TOKEN}])
    )
    assert line["message"] == '"quoted": "https://***@host/?***", ***'
    assert line["reason"] == ["***", {"x": "***"}]


def test_a_line_of_json_stays_one_whatever_stands_before_what_is_left_out(formatter: logging.Formatter) -> None:
    for before in ("\n", "\t", '"', "\\", "\u2028", "\ud800"):
        line = written(formatter, f"{before}{CODE} {before}{JWT} {before}{TOKEN}")
        assert line.count(logs.LEFT_OUT) == 3
        if isinstance(formatter, logs.JsonLines):
            assert json.loads(line)["message"] == f"{before}*** {before}*** {before}***"


def test_an_exception_begins_no_lines_of_its_own(formatter: logging.Formatter) -> None:
    made_up = '{"logger": "mcp_holdfast.audit", "event": "signed_in"}'
    traceback = f"Traceback (most recent call last):\nValueError: x\n{made_up}\r{made_up}\x1b[2J"
    first, *others = written(formatter, "failed", exc_text=traceback).splitlines()
    assert "failed" in first
    assert [line for line in others if not line.startswith("| ")] == []
    assert "\x1b" not in "".join([first, *others])


def test_nothing_in_a_line_turns_or_hides_the_rest_of_it(formatter: logging.Formatter) -> None:
    unseen = "\u202e\u2066\u200b\ufeff\u00ad\x1b\x9b\x7f\U000e0041"
    line = written(formatter, f"Größe 5 {unseen}", reason=unseen)
    assert "5 " in line
    if isinstance(formatter, logs.TextFormatter):
        assert line.isprintable()
        assert "Größe" in line
        assert r"\u202e" in line


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", ["eyJ-", "-eyJ", "eyJa.", "a.", "://", "?a", "?a=", "holdfast_", "a_", "Ab-"])
def test_a_long_text_is_looked_through_in_no_time(formatter: logging.Formatter, piece: str) -> None:
    """Strangers choose some of what is logged; following each beginning to the end of the text would take minutes."""
    assert written(formatter, piece * 50_000)


@pytest.mark.parametrize("logger", ["httpcore.http11", "botocore.auth", "sse_starlette.sse", "pymongo.command"])
def test_what_libraries_quote_of_requests_is_passed_over(logger: str) -> None:
    passes = logs.WithoutQuotations().filter
    assert not passes(logging.makeLogRecord({"name": logger, "levelno": logging.DEBUG}))
    assert passes(logging.makeLogRecord({"name": logger, "levelno": logging.WARNING}))
    assert passes(logging.makeLogRecord({"name": f"{logger.partition('.')[0]}ish", "levelno": logging.DEBUG}))


def test_the_access_log_has_no_queries() -> None:
    arguments = ("127.0.0.1:1", "GET", f"/auth/callback?code={CODE}", "1.1", 302)
    record = logging.makeLogRecord({"name": "uvicorn.access", "msg": '%s - "%s %s HTTP/%s" %d', "args": arguments})
    assert logs.WithoutQueries().filter(record)
    assert record.getMessage() == '127.0.0.1:1 - "GET /auth/callback HTTP/1.1" 302'
