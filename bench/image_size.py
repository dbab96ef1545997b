"""What is in the images and how large they are, beside the recipe of exasol-mcp-server's own image (stock.Dockerfile).

Builds what is not built yet, prints the table, and writes it to bench/results/image-size.md. Run it by
`make bench-image`.
"""

import json
import re
import subprocess
import sys
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from harness.container import ROOT, docker

IMAGES = {
    "stock": ("holdfast-stock", "stock", "--file=bench/stock.Dockerfile"),
    "holdfast": ("holdfast", "holdfast"),
    "base": ("holdfast:base", "base"),
    "debug": ("holdfast:debug", "debug"),
}
GOALS = {"holdfast": 0.5, "base": 0.3}
"""Of the stock image's size as a registry keeps it, at most."""

RESULTS = ROOT / "bench" / "results" / "image-size.md"
SET_ID = 0o6000
EXECUTABLE = 0o111


@dataclass(frozen=True)
class Measured:
    """An image; sizes are in bytes."""

    debian_packages: int
    python_packages: int
    programs: int
    setuid_files: int
    size: int
    gzip_size: int


def measure(image: str) -> Measured:
    with TemporaryDirectory() as directory:
        files = Path(directory, "files.tar")
        container = docker("create", image)
        try:
            docker("export", "--output", str(files), container)
        finally:
            docker("rm", "--volumes", container)
        with tarfile.open(files) as archive:
            members = [member for member in archive if member.isfile()]
            names = [member.name for member in members]
            return Measured(
                debian_packages=_debian_packages(archive, names),
                python_packages=sum(name.endswith(".dist-info/METADATA") for name in names),
                programs=sum(bool(re.search(r"bin/[^/]+$", m.name)) and bool(m.mode & EXECUTABLE) for m in members),
                setuid_files=sum(bool(member.mode & SET_ID) for member in members),
                size=sum(member.size for member in members),
                gzip_size=_gzip_size(image, Path(directory)),
            )


def _debian_packages(archive: tarfile.TarFile, names: list[str]) -> int:
    if "var/lib/dpkg/status" in names:
        status = archive.extractfile("var/lib/dpkg/status")
        assert status is not None
        return status.read().count(b"\nStatus: install ok installed\n")
    return sum(bool(re.match(r"var/lib/dpkg/status\.d/(?!.*\.md5sums$)", name)) for name in names)


def _gzip_size(image: str, directory: Path) -> int:
    """What a registry keeps of an image: each layer compressed, as `docker push` does."""
    saved = directory / "image.tar"
    # By its name alone, all that share the name would be saved.
    docker("save", "--output", str(saved), docker("image", "inspect", "--format", "{{.Id}}", image))
    with tarfile.open(saved) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        (described,) = json.load(manifest)
        return sum(_compressed(archive, layer) for layer in described["Layers"])


def _compressed(archive: tarfile.TarFile, layer: str) -> int:
    # Layers that are alike are saved once, the others are links to it.
    content = archive.extractfile(layer)
    assert content is not None
    compressor = zlib.compressobj(level=6, wbits=31)
    size = 0
    while block := content.read(1 << 20):
        size += len(compressor.compress(block))
    return size + len(compressor.flush())


def table(images: dict[str, Measured]) -> str:
    stock = images["stock"].gzip_size
    rows = {
        "packages of Debian": [str(image.debian_packages) for image in images.values()],
        "packages of Python": [str(image.python_packages) for image in images.values()],
        "programs": [str(image.programs) for image in images.values()],
        "setuid and setgid files": [str(image.setuid_files) for image in images.values()],
        "size": [f"{image.size / 1e6:.0f} MB" for image in images.values()],
        "gzip size": [f"{image.gzip_size / 1e6:.1f} MB" for image in images.values()],
        "of stock": [f"{image.gzip_size / stock:.2f}" for image in images.values()],
        "goal": [f"at most {GOALS[name]}" if name in GOALS else "" for name in images],
        "verdict": [_verdict(name, image.gzip_size / stock) for name, image in images.items()],
    }
    lines = [["", *images], ["---"] * (len(images) + 1), *([name, *cells] for name, cells in rows.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _verdict(name: str, ratio: float) -> str:
    if name not in GOALS:
        return ""
    return "met" if ratio <= GOALS[name] else "missed"


def main() -> None:
    measured = {}
    for name, arguments in IMAGES.items():
        print(f"building and measuring {name}", flush=True)
        subprocess.run([ROOT / "scripts/build-image.sh", *arguments], check=True, capture_output=True)
        measured[name] = measure(arguments[0])
    RESULTS.write_text(f"Written by `make bench-image`.\n\n{table(measured)}")
    print(table(measured))


if __name__ == "__main__":
    main()
