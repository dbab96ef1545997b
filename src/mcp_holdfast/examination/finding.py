"""What was found, and whether it is as it should be."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mcp_holdfast.settings import Problem


class Verdict(StrEnum):
    """A warning is about what works and will hurt; a problem about what does not work."""

    GOOD = "good"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` is what to do about it where it is not good."""

    subject: str
    verdict: Verdict
    what: str
    remedy: str = ""


def judged(subject: str, what: str, concern: str | None = None, remedy: str = "") -> Finding:
    """Tell what was found, and a warning of it if there is a concern."""
    if concern is None:
        return Finding(subject, Verdict.GOOD, what)
    return Finding(subject, Verdict.WARNING, f"{what}: {concern}", remedy)


def of_problem(problem: Problem) -> Finding:
    """Tell what a server would refuse to start with."""
    return Finding(problem.variable, Verdict.PROBLEM, problem.what, problem.remedy)


async def within(
    seconds: float, subject: str, examine: Callable[[], Sequence[Finding]], remedy: str
) -> Sequence[Finding]:
    """Examine what may hang for ever, such as a network file system whose server is gone, in a thread.

    The thread of one that hangs cannot be ended: leave the process by os._exit.
    """
    try:
        return await asyncio.wait_for(asyncio.to_thread(examine), seconds)
    except TimeoutError:
        return [Finding(subject, Verdict.PROBLEM, f"has not answered for {seconds:g} s", remedy)]
