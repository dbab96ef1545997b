"""Each list of what is in the image is valid by its own schema, complete, and true."""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from harness.container import RELEASED, ROOT, built_image, run_to_end

PAGE = ROOT / "docs" / "supply-chain.md"
INSTALLED = """
import importlib.metadata, json
print(json.dumps({found.metadata["Name"]: found.version for found in importlib.metadata.distributions()}))
"""
LICENSED = 0.95
FILES = 100
WHOLE = os.environ.get("SUPPLY_CHAIN") == "whole"
LOCKS = {
    "holdfast": ROOT / "constraints.txt",
    "base": ROOT / "constraints-base.txt",
    "fastmcp4": ROOT / "constraints-fastmcp4.txt",
}


@pytest.fixture(scope="module", params=RELEASED if WHOLE else ["holdfast"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def directory(target: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both lists, made with the command of the page."""
    directory = tmp_path_factory.mktemp("sbom")
    (command,) = re.findall(r"^(scripts/sbom\.sh holdfast) bill-of-materials$", PAGE.read_text(), flags=re.MULTILINE)
    command = command.replace(" holdfast", f" {built_image(target)}")
    subprocess.run([*command.split(), str(directory)], cwd=ROOT, check=True)
    return directory


@pytest.fixture(scope="module")
def packages(directory: Path) -> list[dict[str, Any]]:
    components = json.loads((directory / "sbom.cdx.json").read_text())["components"]
    return [component for component in components if component["type"] == "library"]


def versions(packages: list[dict[str, Any]], kind: str) -> dict[str, str]:
    """The packages of a kind of package URL."""
    return {package["name"]: package["version"] for package in packages if package["purl"].startswith(f"pkg:{kind}/")}


def normalized(packages: dict[str, str]) -> dict[str, str]:
    """With names as package indexes compare them."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in packages.items()}


def test_cyclonedx_is_valid(directory: Path) -> None:
    written = (directory / "sbom.cdx.json").read_text()
    version = json.loads(written)["specVersion"]
    assert JsonStrictValidator(SchemaVersion.from_version(version)).validate_str(written) is None


def test_an_invalid_cyclonedx_is_noticed(directory: Path) -> None:
    written = (directory / "sbom.cdx.json").read_text()
    broken = written.replace('"type":"library"', '"type":"book"')
    assert broken != written
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(broken) is not None


def test_spdx_is_valid(directory: Path, tmp_path: Path) -> None:
    document = json.loads((directory / "sbom.spdx.json").read_text())
    if not WHOLE:
        with_few_files(document)
    (tmp_path / "sbom.spdx.json").write_text(json.dumps(document))
    assert validate_full_spdx_document(parse_file(str(tmp_path / "sbom.spdx.json"))) == []


def with_few_files(document: dict[str, Any]) -> None:
    """Leave out most files: the validator takes a minute for all of them."""
    gone = {file["SPDXID"] for file in document["files"][FILES:]}
    del document["files"][FILES:]
    document["relationships"] = [
        relationship
        for relationship in document["relationships"]
        if not gone & {relationship["spdxElementId"], relationship["relatedSpdxElement"]}
    ]
    for package in document["packages"]:
        package["hasFiles"] = [file for file in package.get("hasFiles", []) if file not in gone]


def test_every_python_package_is_listed(packages: list[dict[str, Any]], target: str) -> None:
    installed = json.loads(run_to_end(built_image(target), "python", "-c", INSTALLED).stdout)
    assert normalized(installed).items() <= normalized(versions(packages, "pypi")).items()


def test_the_packages_of_debian_are_listed(packages: list[dict[str, Any]]) -> None:
    assert {"libc6", "libssl3t64", "python3.13-minimal"} <= set(versions(packages, "deb"))


def test_nearly_every_package_tells_its_licence(packages: list[dict[str, Any]]) -> None:
    licensed = [package for package in packages if package.get("licenses")]
    assert len(licensed) / len(packages) >= LICENSED


def test_every_python_package_tells_the_hash_of_its_wheel_which_is_locked(
    directory: Path, packages: list[dict[str, Any]], target: str
) -> None:
    locked = locked_hashes(LOCKS[target])
    listed = {
        name(package): {found["content"] for found in package["hashes"] if found["alg"] == "SHA-256"}
        for package in packages
        if package["purl"].startswith("pkg:pypi/") and package["name"] != "mcp-holdfast"
    }
    assert [package for package, hashes in listed.items() if len(hashes) != 1 or not hashes <= locked[package]] == []
    in_spdx = {
        name(package): {found["checksumValue"] for found in package["checksums"]}
        for package in json.loads((directory / "sbom.spdx.json").read_text())["packages"]
        if name(package) in listed and package.get("checksums")
    }
    assert in_spdx == listed


def name(package: dict[str, Any]) -> str:
    (found,) = normalized({package["name"]: ""})
    return found


def locked_hashes(lock: Path) -> dict[str, set[str]]:
    locked: dict[str, set[str]] = {}
    for line in re.sub(r"\\\n", "", lock.read_text()).splitlines():
        if found := re.match(r"([a-z0-9-]+)==", line):
            locked.setdefault(found.group(1), set()).update(re.findall(r"--hash=sha256:(\w+)", line))
    return locked


def test_the_hash_of_a_file_is_that_of_the_file_in_the_image(directory: Path, target: str) -> None:
    name = "opt/holdfast/lib/python3.13/site-packages/mcp_holdfast/app.py"
    files = json.loads((directory / "sbom.spdx.json").read_text())["files"]
    (file,) = [file for file in files if file["fileName"].endswith(name)]
    content = run_to_end(built_image(target), "python", "-c", f"print(open('/{name}').read(), end='')").stdout
    hashes = {checksum["algorithm"]: checksum["checksumValue"] for checksum in file["checksums"]}
    assert hashes["SHA256"] == hashlib.sha256(content.encode()).hexdigest()
