"""What a container was given, by either version of cgroups, is read and judged."""

from pathlib import Path

import pytest

from mcp_holdfast.examination import Verdict, examine_machine

GIGABYTE = 1 << 30


def version_2(directory: Path, memory: int | str, cpu: str) -> Path:
    (directory / "memory.max").write_text(f"{memory}\n")
    (directory / "cpu.max").write_text(f"{cpu}\n")
    return directory


def version_1(directory: Path, memory: int, quota: int) -> Path:
    (directory / "memory").mkdir()
    (directory / "cpu").mkdir()
    (directory / "memory/memory.limit_in_bytes").write_text(f"{memory}\n")
    (directory / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
    (directory / "cpu/cpu.cfs_period_us").write_text("100000\n")
    return directory


def found(subject: str, workers: int, directory: Path) -> tuple[Verdict, str]:
    (finding,) = [finding for finding in examine_machine(workers, directory) if finding.subject == subject]
    return finding.verdict, finding.what


@pytest.mark.parametrize("version", [1, 2])
def test_limits_are_told(tmp_path: Path, version: int) -> None:
    limits = {1: lambda: version_1(tmp_path, GIGABYTE, 25000), 2: lambda: version_2(tmp_path, GIGABYTE, "25000 100000")}
    directory = limits[version]()
    assert found("memory", 1, directory)[1].startswith("1024 MB; one worker takes about ")
    assert found("cpu", 1, directory) == (Verdict.GOOD, "0.25 CPUs for 1 worker")


@pytest.mark.parametrize("version", [1, 2])
def test_no_limit_is_told(tmp_path: Path, version: int) -> None:
    unlimited = 9223372036854771712
    directory = version_1(tmp_path, unlimited, -1) if version == 1 else version_2(tmp_path, "max", "max 100000")
    assert found("memory", 1, directory)[1].startswith("no limit;")
    assert found("cpu", 1, directory)[0] is Verdict.GOOD


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert found("memory", 1, tmp_path)[1].startswith("no limit;")


def test_too_little_memory_for_the_workers_is_a_warning(tmp_path: Path) -> None:
    directory = version_2(tmp_path, GIGABYTE, "max 100000")
    assert found("memory", 2, directory)[0] is Verdict.GOOD
    verdict, what = found("memory", 30, directory)
    assert (verdict, what.endswith("that is too little")) == (Verdict.WARNING, True)


def test_more_workers_than_the_cpus_can_run_are_a_warning(tmp_path: Path) -> None:
    directory = version_2(tmp_path, "max", "50000 100000")
    assert found("cpu", 1, directory)[0] is Verdict.GOOD
    assert found("cpu", 2, directory) == (Verdict.WARNING, "0.5 CPUs for 2 workers: they would wait for each other")
