"""The image's health check, `python -m mcp_holdfast.healthcheck`: exit 0 if /readyz says so, else 1 and why.

Of the standard library alone, since it starts a Python every few seconds.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

DEADLINE = 8.0


def _port() -> int:
    if file := os.environ.get("PORT_FILE"):
        return int(Path(file).read_text(encoding="utf-8"))
    return int(os.environ.get("PORT") or 8000)


def main() -> int:
    connection = HTTPConnection("127.0.0.1", _port(), timeout=DEADLINE)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        answer = response.read().decode()
    except (OSError, HTTPException) as error:
        answer, ready = f"no answer: {error}", False
    else:
        ready = response.status == 200
    sys.stdout.write(f"{answer}\n")
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())
