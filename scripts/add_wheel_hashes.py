#!/usr/bin/env python3
"""Adds to both lists of what is in an image the hash of the wheel that each Python package was installed from.

Usage: add_wheel_hashes.py SYFT CYCLONEDX SPDX: what Syft writes as JSON of its own, with the image's list of wheels
(list_wheels.py) among the contents of files, and the two lists to change. Syft itself knows no hashes of wheels
(https://github.com/anchore/syft/issues/1766). Packages that come of no wheel of that list stay as they are.
"""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

LIST_OF_WHEELS = "/opt/holdfast/wheels.sha256"

Document = dict[str, Any]
Package = tuple[str, str]
"""The name of a Python package as package indexes compare names, and its version."""


def main(syft: Path, cyclonedx: Path, spdx: Path) -> None:
    hashes = hashes_of_wheels(json.loads(syft.read_text()))
    components = json.loads(cyclonedx.read_text())
    for component in components.get("components", []):
        if found := hash_of(component, "version", hashes):
            component["hashes"] = [{"alg": "SHA-256", "content": found}]
    write(cyclonedx, components)
    packages = json.loads(spdx.read_text())
    for described in packages["packages"]:
        if found := hash_of(described, "versionInfo", hashes):
            described["checksums"] = [{"algorithm": "SHA256", "checksumValue": found}]
    write(spdx, packages)


def hashes_of_wheels(syft: Document) -> dict[Package, str]:
    listed = "".join(
        base64.b64decode(file["contents"]).decode()
        for file in syft.get("files", [])
        if file["location"]["path"] == LIST_OF_WHEELS
    )
    wheels = [line.split() for line in listed.splitlines()]
    return {(normalized(name), version): found for found, wheel in wheels for name, version, *_ in [wheel.split("-")]}


def hash_of(described: Document, version: str, hashes: dict[Package, str]) -> str | None:
    """That of the wheel of a package, if it is one of Python; `version` is what the list calls its version."""
    urls = [described.get("purl", ""), *(other["referenceLocator"] for other in described.get("externalRefs", []))]
    if not any(url.startswith("pkg:pypi/") for url in urls):
        return None
    return hashes.get((normalized(described["name"]), described[version]))


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def write(path: Path, document: Document) -> None:
    path.write_text(json.dumps(document, separators=(",", ":")))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
