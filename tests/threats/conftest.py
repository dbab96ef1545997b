"""Fixtures of other rooms that attacks need, too."""

from integration.conftest import start_server
from replicas.conftest import installed

__all__ = ["installed", "start_server"]
