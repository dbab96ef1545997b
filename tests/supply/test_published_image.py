"""An image that was published with the commands of docs/supply-chain.md can be verified, and a changed one cannot.

What `make long` publishes is tiny; `make supply-chain` publishes the real images.
"""

import base64
import json
import os
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from harness.container import RELEASED, ROOT, built_image, docker
from supply.conftest import Publisher
from test_docs import blocks

pytestmark = pytest.mark.long

PAGE = ROOT / "docs" / "supply-chain.md"
PUBLISH, VERIFY = (block for block in blocks(PAGE, "sh") if "registry.example.com" in block)
RELEASE = ROOT / ".github/workflows/release.yaml"
WHOLE = os.environ.get("SUPPLY_CHAIN") == "whole"
TAG = "registry.example.com/holdfast:0.1.0"
ATTESTED = {
    "cyclonedx": ("https://cyclonedx.org/bom", "sbom.cdx.json"),
    "spdxjson": ("https://spdx.dev/Document", "sbom.spdx.json"),
    "slsaprovenance1": ("https://slsa.dev/provenance/v1", "provenance.json"),
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image to publish."""
    if WHOLE:
        yield built_image()
        return
    name = f"holdfast-test-{uuid.uuid4().hex[:12]}"
    import_image(tmp_path_factory.mktemp("image"), name, "content")
    yield name
    docker("rmi", "--force", name)


def import_image(directory: Path, name: str, content: str) -> None:
    """Make an image of one file."""
    (directory / "file").write_text(content)
    with tarfile.open(directory / "image.tar", "w") as archive:
        archive.add(directory / "file", "file")
    docker("import", str(directory / "image.tar"), name)


@pytest.fixture(scope="module")
def published(publisher: Publisher, image: str) -> str:
    """The name of the published index, with its digest."""
    return publisher.succeed(PUBLISH.replace(" holdfast", f" {image}")).splitlines()[-1]


def platform_digest(published: str) -> str:
    """The image in the index."""
    repository, _, digest = published.partition("@")
    host, _, name = repository.partition("/")
    accept = "application/vnd.docker.distribution.manifest.list.v2+json"
    index = httpx.get(f"http://{host}/v2/{name}/manifests/{digest}", headers={"accept": accept}).json()
    (manifest,) = index["manifests"]
    return str(manifest["digest"])


def statement(publisher: Publisher, published: str, kind: str) -> dict[str, Any]:
    """What is attested of the image, from the command of the page."""
    (command,) = [line for line in VERIFY.splitlines() if "verify-attestation" in line]
    repository = published.partition("@")[0]
    command = command.replace("--type cyclonedx", f"--type {kind}")
    (line,) = publisher.succeed(
        command.replace(f"{TAG}-amd64", f"{repository}@{platform_digest(published)}")
    ).splitlines()
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(line)["payload"]))
    return found


def test_it_is_verified(publisher: Publisher, published: str) -> None:
    publisher.succeed(VERIFY)
    publisher.succeed(VERIFY.replace(f"{TAG}\n", f"{published}\n"))


@pytest.mark.parametrize("kind", ATTESTED)
def test_what_is_in_it_and_where_it_was_built_is_attested(publisher: Publisher, published: str, kind: str) -> None:
    type_, file = ATTESTED[kind]
    found = statement(publisher, published, kind)
    assert found["predicateType"] == type_
    assert f"sha256:{found['subject'][0]['digest']['sha256']}" == platform_digest(published)
    assert found["predicate"] == json.loads((publisher.directory / "images/amd64" / file).read_text())


def test_a_changed_image_under_the_same_name_is_refused(publisher: Publisher, published: str, tmp_path: Path) -> None:
    """Somebody who may write to the registry, and has no key."""
    assert published
    import_image(tmp_path, f"{publisher.repository}:0.1.0", "other content")
    docker("push", f"{publisher.repository}:0.1.0")
    docker("rmi", f"{publisher.repository}:0.1.0")
    verify, _, attestation = VERIFY.replace(f"{TAG}-amd64", TAG).splitlines()
    assert "no signatures found" in publisher.run(verify).stderr
    assert "no valid bundles exist in registry" in publisher.run(attestation).stderr


def test_a_release_publishes_each_of_its_images(publisher: Publisher, published: str, image: str) -> None:
    """By the commands of the workflow, which has no key but an identity."""
    assert published
    for target in RELEASED:
        name, directory = built_image(target) if WHOLE else image, f"release/images/{target}/amd64"
        publisher.succeed(f"scripts/sbom.sh {name} {directory}; docker save {name} | gzip >{directory}/image.tar.gz")
    (step,) = [
        step
        for step in yaml.safe_load(RELEASE.read_text())["jobs"]["publish"]["steps"]
        if "publish-image.sh" in step.get("run", "")
    ]
    settings = f"COSIGN_KEY=$PWD/cosign.key REPOSITORY={publisher.repository} GITHUB_REF_NAME=v0.2.0"
    publisher.succeed(f"export {settings}; cd release\n{step['run']}")
    verify, _, _ = VERIFY.splitlines()
    for tag in ("0.2.0", "0.2.0-amd64", "0.2.0-base", "0.2.0-fastmcp4"):
        publisher.succeed(verify.replace(TAG, f"{publisher.repository}:{tag}"))


def test_another_key_is_refused(publisher: Publisher, published: str) -> None:
    publisher.succeed("cosign generate-key-pair --output-key-prefix other")
    command = VERIFY.partition("\n")[0].replace(TAG, published).replace("cosign.pub", "other.pub")
    assert "invalid signature" in publisher.run(command).stderr


def test_nothing_is_pushed_before_everything_is_there(publisher: Publisher) -> None:
    done = publisher.run("mkdir -p empty && COSIGN_KEY=cosign.key scripts/publish-image.sh localhost:1/x 0.1.0 empty")
    assert done.returncode == 1
    assert done.stderr == "error: empty/image.tar.gz is missing; docker save makes it, and scripts/sbom.sh the rest\n"
