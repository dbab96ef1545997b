#!/usr/bin/env python3
"""Prints the wheels that pip installed and verified, as sha256sum prints files.

Usage: list_wheels.py REPORT, which is that of pip's --report
(https://pip.pypa.io/en/stable/reference/installation-report/)
"""

import json
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit


def main(report: Path) -> None:
    for installed in json.loads(report.read_text())["install"]:
        origin = installed["download_info"]
        wheel = Path(unquote(urlsplit(origin["url"]).path)).name
        sys.stdout.write(f"{origin['archive_info']['hashes']['sha256']}  {wheel}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
