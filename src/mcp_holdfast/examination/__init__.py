"""Look at what is around a server before people use it: the machine, the place of its store, its provider, its URL.

Nothing here is stored; `holdfast doctor` prints the findings.
"""

from mcp_holdfast.examination.finding import Finding, Verdict, of_problem, within
from mcp_holdfast.examination.machine import examine_machine
from mcp_holdfast.examination.network import Answers, examine_provider, examine_public_urls
from mcp_holdfast.examination.place import examine_engine, examine_keys, examine_volume

__all__ = [
    "Answers",
    "Finding",
    "Verdict",
    "examine_engine",
    "examine_keys",
    "examine_machine",
    "examine_provider",
    "examine_public_urls",
    "examine_volume",
    "of_problem",
    "within",
]
