"""An Exasol database, of which no registry has a copy: a stand-in that speaks its protocol, as a process of its own."""

from harness.exasol.process import DATABASE_USER, ExasolDatabase

__all__ = ["DATABASE_USER", "ExasolDatabase"]
