"""An MCP client as its user knows it: a real program that signs in in a browser and remembers that in its home."""

import json
import os
import sys
from abc import ABC, abstractmethod
from importlib import metadata
from pathlib import Path
from typing import ClassVar

from clients.person import STAND_INS, Person

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
NPM_PACKAGES = HERE / "node_modules"

DOCUMENTED_URL = "http://localhost:8000/mcp"
"""Where docs/clients.md has the server."""


class Client(ABC):
    """A client of the server at `url`; `home` is made for it."""

    name: ClassVar[str]
    package: ClassVar[str]
    """What it is called at PyPI, or at npm where that has it."""
    documented: ClassVar[tuple[str, ...]] = ()
    """The commands of docs/clients.md that it is started with here."""
    forgets_expiry: ClassVar[bool] = False
    """Whether it takes a token for good that expired while it was not running, and then has its user sign in again."""
    replays_its_registration: ClassVar[bool] = False
    """Whether it signs in with its old registration where the server has lost that, until it is made to forget it."""

    def __init__(self, url: str, home: Path, person: Person) -> None:
        self.url = url
        self.home = home
        self.person = person
        home.mkdir()
        # So that npx finds the packages of package-lock.json and asks no registry.
        (home / "node_modules").symlink_to(NPM_PACKAGES)
        programs = [STAND_INS, NPM_PACKAGES / ".bin", Path(sys.executable).parent]
        path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
        self.environment = {"PATH": path, "HOME": str(home), "TERM": "xterm", **person.environment}

    @classmethod
    def version(cls) -> str:
        manifest = NPM_PACKAGES / cls.package / "package.json"
        if manifest.exists():
            return str(json.loads(manifest.read_text())["version"])
        return metadata.version(cls.package)

    @abstractmethod
    def sign_in(self) -> None:
        """Do what takes its user to the sign-in page, and have the person sign in there."""

    @abstractmethod
    def use(self) -> None:
        """Do as a signed-in user does: call `whoami`, or what comes nearest to it without a model.

        Raises an AssertionError where it opens the browser or is refused.
        """

    def forget(self) -> None:
        """Do what makes it forget its registration."""
        raise NotImplementedError(f"{self.name} registers again by itself")

    @abstractmethod
    def stop(self) -> None:
        """End its program, where it has one that stays; it starts when it is needed again."""

    def at_this_server(self, command: str) -> str:
        return command.replace(DOCUMENTED_URL, self.url)
