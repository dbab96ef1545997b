#!/usr/bin/env python3
"""Takes out of installed packages what no server needs at run time, and makes each RECORD say what is left.

Usage: prune_packages.py SITE_PACKAGES
"""

import base64
import csv
import hashlib
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

COMMANDS = ("gunicorn", "holdfast")
SERVICES = ("dynamodb", "sso", "sso-oidc", "sts")
"""Of AWS: the store, and who hands out credentials for it."""

UNNEEDED = re.compile(
    r"(^|/)tests/"
    r"|\.(a|c|cc|cpp|h|hpp|pc|pxd|pxi|pyi|pyx|mo|po)$"
    rf"|^(\.\./)+bin/(?!({'|'.join(COMMANDS)})$)"
    r"|^(\.\./)+(share|include)/"
    # Of the installation, not of the package.
    r"|\.dist-info/(INSTALLER|REQUESTED|direct_url\.json)$"
    rf"|^botocore/data/(?!({'|'.join(SERVICES)})/)[^/]+/"
    # For where there is no certifi.
    r"|^botocore/cacert\.pem$"
)


def main(site_packages: Path) -> None:
    for distribution in distributions(path=[str(site_packages)]):
        prune(distribution, site_packages)
    remove_empty_directories(site_packages)


def prune(distribution: Distribution, site_packages: Path) -> None:
    """Remove the unneeded files of one distribution and write its RECORD (PyPA, "Recording installed projects")."""
    rows = []
    record = None
    for file in distribution.files or []:
        path = site_packages / file
        if UNNEEDED.search(str(file)):
            path.unlink(missing_ok=True)
        elif str(file).endswith(".dist-info/RECORD"):
            record = path
            rows.append([str(file), "", ""])
        elif path.exists():
            content = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append([str(file), f"sha256={digest}", str(len(content))])
    if record is None:
        sys.exit(f"{distribution.metadata['Name']} has no RECORD")
    with record.open("w", newline="") as output:
        csv.writer(output, lineterminator="\n").writerows(sorted(rows))


def remove_empty_directories(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
