#!/usr/bin/env python3
"""Makes DIRECTORY the root of an image, with what ENVIRONMENT needs of this Debian system and nothing else.

Usage: root_file_system.py DIRECTORY ENVIRONMENT

Packages are chosen, not paths: those in PACKAGES, and the packages of every shared library that a file of theirs or of
ENVIRONMENT is linked with. Of each comes what dpkg lists, without what only people and package managers read. Where
scanners look for them, in /var/lib/dpkg/status.d as in distroless images, are the records of exactly these.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from compile_modules import compile_modules

PACKAGES = (
    "base-files",  # the directories, and which release of Debian this is
    "ca-certificates",
    "dash",  # for entrypoint.sh
    "libpython3.13-minimal",
    "libpython3.13-stdlib",
    "media-types",  # for mimetypes
    "netbase",  # for socket.getservbyname
    "openssl",  # where OpenSSL's library looks for certificates
    "python3.13-minimal",
    "tzdata",  # for zoneinfo and TZ
)
WITH_PROGRAMS = ("dash", "python3.13-minimal")

PROGRAMS = re.compile(r"/usr/(s?bin|games)/")
UNREAD = re.compile(
    # A licence has to come with what it is for.
    r"/usr/share/doc/.+/(?!copyright$)[^/]+$"
    r"|/usr/share/(base-files|bug|ca-certificates|debconf|dict|doc-base|info|lintian|man|misc|perl5)(/|$)"
    r"|/usr/lib/ssl/misc/|/usr/(include|src|games)(/|$)"
    # Python tests itself with these, explains itself at its prompt, and has its own tables of characters.
    r"|/usr/lib/python3\.13/(test/|pydoc_data/topics\.py)|/usr/lib/[^/]+/gconv/"
    # Berkeley DB, of which Debian has only the first interface, for files that nothing writes: dbm has SQLite's, too.
    r"|/usr/lib/python3\.13/lib-dynload/_dbm\."
    # Of the C library: what debuggers load, and mathematics that compilers call only when they are told to.
    r"|/usr/lib/[^/]+/lib(c_malloc_debug|memusage|mvec|pcprofile|thread_db)\.so"
    r"|/etc/(apt|ca-certificates|cron\.\w+|default|dpkg|init\.d|profile\.d|skel|update-motd\.d)(/|$)"
    r"|/var/(backups|cache|lib/misc|local|lock|log|mail|spool)(/|$)"
)
STANDARD_LIBRARY = "usr/lib/python3.13"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
RECORDS = Path("var/lib/dpkg/status.d")

WRITTEN = {
    "etc/passwd": "root:*:0:0:root:/root:/usr/sbin/nologin\nholdfast:*:10001:10001::/tmp:/usr/sbin/nologin\n",
    "etc/group": "root:*:0:\nholdfast:*:10001:\n",
    # What `docker run --add-host` and Compose write comes before what a name server says.
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}
VOLUME = ("data", 10001, 0)
"""Any other user of group 0 can write there, as OpenShift wants it."""


def main(root: Path, environment: Path) -> None:
    packages = needed_packages(environment)
    for package in packages:
        for path in files_of(package):
            copy(path, root)
        write_record(package, root)
    copy(CERTIFICATES, root)
    for name, text in WRITTEN.items():
        (root / name).write_text(text)
    name, user, group = VOLUME
    (root / name).mkdir()
    shutil.chown(root / name, user, group)
    (root / name).chmod(0o770)
    compile_modules(root / STANDARD_LIBRARY, root)
    for path in below(root):
        # The same files make the same layer, whenever they were built.
        os.utime(path, (0, 0), follow_symlinks=False)


def needed_packages(environment: Path) -> list[str]:
    """PACKAGES and all that they and the environment are linked with, base-files with its directories first."""
    found: dict[str, None] = {}
    wanted = [*PACKAGES, *owners(linked(below(environment)), apart_from=environment)]
    while wanted:
        package = wanted.pop(0)
        if package not in found:
            found[package] = None
            files = files_of(package)
            wanted += owners([*linked(files), *licences(package)], apart_from=environment)
    return ["base-files", *sorted(found.keys() - {"base-files"})]


def files_of(package: str) -> list[Path]:
    """What is to be copied of a package."""
    listed = [Path(line) for line in dpkg_query("--listfiles", package) if line.startswith("/")]
    return [path for path in listed if is_wanted(path, package)]


def is_wanted(path: Path, package: str) -> bool:
    if not (path.exists() or path.is_symlink()):
        return False  # left out when this system was made
    if path.is_dir() and not path.is_symlink() and package != "base-files":
        return False  # made for what is in it
    if PROGRAMS.match(str(path)) and package not in WITH_PROGRAMS:
        return False
    if path.parent == Path("/usr/share/doc"):
        return path.is_symlink()  # to the package with the licence
    return not UNREAD.match(str(path))


def licences(package: str) -> list[Path]:
    """Where the licence of a package is, which may be in another package."""
    path = Path("/usr/share/doc", package, "copyright")
    return [path] if path.exists() else []


def below(directory: Path) -> Iterator[Path]:
    """Everything in a directory, the innermost first."""
    return iter(sorted(directory.rglob("*"), reverse=True))


def linked(files: Iterable[Path]) -> list[Path]:
    """The shared libraries that files are linked with, directly or not.

    Raises:
        SystemExit: one of them is not on this system.

    """
    programs = [str(path) for path in files if is_elf(path)]
    if not programs:
        return []
    # It fails where one of them is linked with nothing.
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    if "not found" in told:
        sys.exit(f"a shared library is missing:\n{told}")
    return sorted({Path(path) for path in re.findall(r"^\t(?:\S+ => )?(/\S+) \(0x", told, flags=re.MULTILINE)})


def is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def owners(files: Iterable[Path], apart_from: Path) -> list[str]:
    """The packages that files are of."""
    real = sorted({str(path.resolve()) for path in files if apart_from not in path.resolve().parents})
    return [re.split("[:,]", line)[0] for line in dpkg_query("--search", *real)] if real else []


def copy(path: Path, root: Path) -> None:
    """Copy a file, a symbolic link or an empty directory; whoever it is of, it is root's in the image."""
    target = root / path.parent.resolve().relative_to("/") / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        target.mkdir(exist_ok=True)
        target.chmod(0o1777 if path.stat().st_mode & stat.S_ISVTX else 0o755)
    else:
        shutil.copy2(path, target, follow_symlinks=False)


def write_record(package: str, root: Path) -> None:
    """Write what dpkg knows of a package, and the sums of those of its files that are here."""
    records = root / RECORDS
    records.mkdir(parents=True, exist_ok=True)
    (records / package).write_text("\n".join(dpkg_query("--status", package)) + "\n")
    sums = [
        line
        for path in dpkg_query("--control-path", package, "md5sums")
        for line in Path(path).read_text().splitlines()
        if (root / line.split("  ", 1)[1]).is_file()
    ]
    (records / f"{package}.md5sums").write_text("".join(f"{line}\n" for line in sums))


def dpkg_query(*arguments: str) -> list[str]:
    return subprocess.run(["dpkg-query", *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
