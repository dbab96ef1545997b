"""What a container may do, whoever runs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mount:
    """A volume, or a directory of the machine, at `path` in the container."""

    source: str
    path: str
    read_only: bool = False


@dataclass(frozen=True)
class Confinement:
    """A container with a read-only root and without any capability.

    `user` is USER:GROUP in numbers, by default the image's. `init` has another program start the image's, forward
    signals and reap. `tmpfs` holds mount options by directory, `limits` soft and hard limits by name. `refused` system
    calls fail with EPERM.
    """

    user: str | None = None
    no_new_privileges: bool = True
    init: bool = False
    tmpfs: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"/tmp": ("nosuid", "mode=1777")})
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    refused: Sequence[str] = ()
