"""The Dockerfile keeps the controls of the CIS Docker Benchmark (1.6) that no image shows; each notices a breach."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTALL = (ROOT / "scripts/install-environment.sh").read_text()
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|_KEY|_PIN")

Control = Callable[[str], bool]


def instructions(dockerfile: str, *names: str) -> list[str]:
    """What follows these instructions, lines joined and comments left out."""
    lines = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    joined = lines.replace("\\\n", " ")
    return re.findall(rf"^(?:{'|'.join(names)}) +(.*)$", joined, flags=re.MULTILINE)


def every_image_is_a_stage_or_nothing_or_debians_by_its_digest(dockerfile: str) -> bool:
    """Control 4.2: trusted base images only."""
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile, flags=re.MULTILINE)
    known = {"scratch", "${BASE_IMAGE}", *(name for _, name in stages)}
    (base,) = re.findall(r"^ARG BASE_IMAGE=(.*)$", dockerfile, flags=re.MULTILINE)
    pinned = re.fullmatch(r"debian:trixie-slim@sha256:[0-9a-f]{64}", base) is not None
    return pinned and len(stages) == dockerfile.count("\nFROM ") and all(image in known for image, _ in stages)


def no_list_of_packages_is_older_than_what_is_installed_by_it(dockerfile: str) -> bool:
    """Control 4.7: no update alone in its layer."""
    runs = instructions(dockerfile, "RUN")
    return all("apt-get install" in run for run in runs if "apt-get update" in run)


def files_are_copied_and_never_fetched(dockerfile: str) -> bool:
    """Control 4.9: COPY instead of ADD."""
    return instructions(dockerfile, "ADD") == []


def no_secret_is_in_a_variable(dockerfile: str) -> bool:
    """Control 4.10: no secret in the Dockerfile."""
    return not any(SECRET.search(told) for told in instructions(dockerfile, "ARG", "ENV"))


def a_secret_of_the_build_is_mounted(dockerfile: str) -> bool:
    """Control 4.10: none of the image's layers has it."""
    return not any("secrets" in told for told in instructions(dockerfile, "COPY"))


LAST = "FROM settings AS holdfast\n"
BROKEN: list[tuple[Control, str, str]] = [
    (every_image_is_a_stage_or_nothing_or_debians_by_its_digest, r"@sha256:[0-9a-f]{64}", ""),
    (every_image_is_a_stage_or_nothing_or_debians_by_its_digest, "=debian:trixie-slim@", "=somebody/debian@"),
    (every_image_is_a_stage_or_nothing_or_debians_by_its_digest, "FROM scratch AS", "FROM alpine AS"),
    (every_image_is_a_stage_or_nothing_or_debians_by_its_digest, LAST, f"{LAST}FROM alpine\n"),
    (no_list_of_packages_is_older_than_what_is_installed_by_it, LAST, f"{LAST}RUN apt-get update\n"),
    (files_are_copied_and_never_fetched, LAST, f"{LAST}ADD https://example.com/a.tar.gz /\n"),
    (no_secret_is_in_a_variable, LAST, f"{LAST}ARG INDEX_TOKEN\n"),
    (no_secret_is_in_a_variable, LAST, f"{LAST}ENV HOLDFAST_SIGNING_KEY=x\n"),
    (a_secret_of_the_build_is_mounted, LAST, f"{LAST}COPY secrets/pip.conf /etc/\n"),
]


@pytest.mark.parametrize("control", dict.fromkeys(control for control, *_ in BROKEN), ids=lambda found: found.__name__)
def test_is_kept(control: Control) -> None:
    assert control(DOCKERFILE)


@pytest.mark.parametrize(("control", "what", "instead"), BROKEN)
def test_is_seen_to_be_broken(control: Control, what: str, instead: str) -> None:
    broken = re.sub(what, instead, DOCKERFILE)
    assert broken != DOCKERFILE
    assert not control(broken)


def test_every_python_package_is_what_its_hash_says() -> None:
    """Control 4.11: verified packages only; apt verifies Debian's signatures by itself unless it is told not to."""
    assert INSTALL.count("pip --python") == INSTALL.count("--require-hashes --only-binary :all:") == 1
    assert not re.search(r"allow-unauthenticated|trusted=yes|trusted-host", DOCKERFILE + INSTALL)
