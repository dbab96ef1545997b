"""`holdfast fargate render` fills in the task definition, or names all that is missing or malformed, and the remedy."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.fargate import FARGATE, PLACEHOLDERS, SECRET
from mcp_holdfast.cli.fargate import MEMORY_OF_CPU, PLACEHOLDER, TEMPLATE, rendered_definition
from mcp_holdfast.cli.fargate import PLACEHOLDERS as DOCUMENTED
from mcp_holdfast.settings import ConfigurationError

PAGE = (FARGATE.parent / "docs/fargate.md").read_text()
EXIT_USAGE = 2


def assignments(**values: str) -> list[str]:
    return [f"{name}={value}" for name, value in {**PLACEHOLDERS, **values}.items()]


def problems(*values: str, setting: tuple[str, ...] = (), secret: tuple[str, ...] = ()) -> dict[str, str]:
    """What is wrong with these values, by the name that it is wrong with."""
    with pytest.raises(ConfigurationError) as error:
        rendered_definition(values, setting, secret)
    return {problem.variable: str(problem) for problem in error.value.problems}


def holdfast(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("holdfast")
    return subprocess.run([program, "fargate", "render", *arguments], capture_output=True, text=True, check=False)


def test_it_prints_what_ecs_registers() -> None:
    done = holdfast(
        *assignments(),
        "--setting",
        "EXA_DSN=db:8563",
        "--setting",
        "EXA_USER=mcp",
        "--secret",
        f"EXA_PASSWORD={SECRET}exasol-AbCdEf",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not PLACEHOLDER.search(done.stdout)
    (container,) = json.loads(done.stdout)["containerDefinitions"]
    assert {"name": "EXA_DSN", "value": "db:8563"} in container["environment"]
    assert {"name": "EXA_PASSWORD", "valueFrom": f"{SECRET}exasol-AbCdEf"} in container["secrets"]


def test_without_values_it_lists_every_placeholder_with_its_default_or_an_example() -> None:
    done = holdfast()
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^  (\w+): (.*), (?:by default|such as) (\S+)$", done.stdout, flags=re.MULTILINE)
    assert listed == [(name, each.what, each.default or each.example) for name, each in DOCUMENTED.items()]


@pytest.mark.parametrize("given", [("CPU=1024",), ("--setting", "EXA_USER=mcp")])
def test_with_too_few_values_it_names_everything_that_is_missing(given: tuple[str, ...]) -> None:
    done = holdfast(*given)
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    required = {name for name, placeholder in DOCUMENTED.items() if placeholder.default is None}
    assert set(re.findall(r"^  - (\w+): is missing\. Give ", done.stderr, flags=re.MULTILINE)) == required
    assert required == PLACEHOLDERS.keys()


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_a_missing_value_is_named(name: str) -> None:
    assert problems(*(value for value in assignments() if not value.startswith(f"{name}="))).keys() == {name}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMAGE", "holdfast"),
        ("IMAGE", "111122223333.dkr.ecr.eu-central-1.amazonaws.com/holdfast:latest"),
        ("IMAGE", "111122223333.dkr.ecr.eu-central-1.amazonaws.com/holdfast"),
        ("IMAGE", "registry.example.com/holdfast:0.1.0 --privileged"),
        ("REGION", "Frankfurt"),
        ("BASE_URL", "http://mcp.example.com"),
        ("BASE_URL", "https://mcp.example.com/mcp"),
        ("BASE_URL", "https://mcp.example.com/"),
        ("BASE_URL", "https://mcp.example.com,mcp.example.org"),
        ("BASE_URL", "https://mcp.example.com:0"),
        ("PROXY_ADDRESSES", "*"),
        ("PROXY_ADDRESSES", "load-balancer"),
        ("PROXY_ADDRESSES", "10.0.0.0/99"),
        ("PROXY_ADDRESSES", "10.0.0.0/24,10.0.1.1/24"),
        ("EXECUTION_ROLE_ARN", "holdfast-execution"),
        ("TASK_ROLE_ARN", "arn:aws:iam::1111:role/holdfast"),
        ("FILE_SYSTEM_ID", "holdfast"),
        ("ACCESS_POINT_ID", "fs-0123456789abcdef0"),
        ("PIN_SECRET_ARN", "correct-horse-battery"),
        ("STORAGE_KEY_SECRET_ARN", "arn:aws:ssm:eu-central-1:111122223333:parameter/key"),
        ("SIGNING_KEY_SECRET_ARN", f"{SECRET}key"),
        ("CPU_ARCHITECTURE", "x86_64"),
        ("CPU", "500"),
        ("MEMORY", "1G"),
        ("MEMORY", "512"),
        ("MEMORY", ""),
        ("LOG_GROUP", "my logs"),
        ("LOG_GROUP", "${REGION}"),
    ],
)
def test_a_malformed_value_is_named_with_the_remedy_and_never_printed_where_it_may_be_a_secret(
    name: str, value: str
) -> None:
    found = problems(*assignments(**{name: value}))
    assert found.keys() == {name}
    told = found[name]
    assert not name.endswith("SECRET_ARN") or value not in told
    assert re.search(r"\. (Write|Give|Choose|Correct|List|Name|Use)", told), told


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("CPU_ARCHITECTURE", "arm64", "Choose X86_64 or ARM64"),
        ("CPU", "300", "Choose one of 256, 512, 1024, 2048, 4096, 8192, 16384"),
        ("MEMORY", "512", "Choose one of 1024, 2048, 3072, 4096"),
        ("PROXY_ADDRESSES", "10.0.0.0/24,10.0.1.1/24", "Write 10.0.1.0/24"),
        ("PROXY_ADDRESSES", "10.0.0.0/99", "Write it as in PROXY_ADDRESSES=10.0.0.0/24,10.0.1.0/24"),
        ("BASE_URL", "https://mcp.example.com:0", "Write it as in BASE_URL=https://mcp.example.com"),
    ],
)
def test_the_remedy_names_what_is_possible(name: str, value: str, remedy: str) -> None:
    assert problems(*assignments(**{name: value}))[name].endswith(remedy)


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("HOLDFAST_PIN=hunter2", "Give PIN_SECRET_ARN instead"),
        ("HOLDFAST_BASE_URL=https://mcp.example.com", "Give BASE_URL instead"),
        ("HOLDFAST_DRAIN=1s", "Leave it out"),
    ],
)
def test_a_setting_that_the_template_has_gets_one_remedy(setting: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        rendered_definition(assignments(), (setting,))
    (problem,) = error.value.problems
    assert (problem.variable, problem.remedy) == (setting.partition("=")[0], remedy)


def test_a_variable_that_is_a_setting_and_a_secret_gets_one_remedy() -> None:
    with pytest.raises(ConfigurationError) as error:
        rendered_definition(assignments(), ("EXA_PASSWORD=hunter2",), (f"EXA_PASSWORD={SECRET}exasol-AbCdEf",))
    (problem,) = error.value.problems
    assert (problem.variable, problem.remedy) == ("EXA_PASSWORD", "Leave one of them out")


def test_all_problems_are_told_at_once() -> None:
    assert problems("REGION=nowhere", "CPU=1").keys() >= {"IMAGE", "REGION", "CPU", "BASE_URL"}


@pytest.mark.parametrize("value", ["BASE_URI=https://mcp.example.com", "EXA_DSN=db:8563", "REGION", "REGION=eu-west-1"])
def test_what_is_no_placeholder_or_given_twice_is_refused(value: str) -> None:
    assert problems(*assignments(), value).keys() == {value.partition("=")[0]}


@pytest.mark.parametrize(
    "setting",
    [
        "EXA_PASSWORD=hunter2",
        "HOLDFAST_STORAGE_KEY_PREVIOUS=hunter2",
        "HOLDFAST_STORAGE_URL=postgresql://holdfast:hunter2@db/holdfast",
        "FASTMCP_SERVER_AUTH_AZURE_CLIENT_SECRET=hunter2",
    ],
)
def test_a_secret_is_no_plain_setting(setting: str) -> None:
    name = setting.partition("=")[0]
    told = problems(*assignments(), setting=(setting,))
    assert "--secret" in told[name]
    assert "hunter2" not in str(told)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("HOLDFAST_SWEEP=1m", "HOLDFAST_SWEEP"),
        ("HOLDFAST_LEASE=soon", "HOLDFAST_LEASE"),
        ("EXA DSN=db", "EXA DSN"),
        ("LOG_FORMAT=text", "LOG_FORMAT"),
        ("HOLDFAST_PIN", "HOLDFAST_PIN"),
    ],
)
def test_a_setting_that_the_server_would_refuse_is_refused(setting: str, name: str) -> None:
    assert problems(*assignments(), setting=(setting,)).keys() == {name}


@pytest.mark.parametrize(
    "secret", ["EXA_PASSWORD=hunter2", f"HOLDFAST_KEY={SECRET}key-AbCdEf", f"HOLDFAST_PIN={SECRET}pin-AbCdEf"]
)
def test_a_secret_that_is_none_or_known_already_is_refused(secret: str) -> None:
    told = problems(*assignments(), secret=(secret,))
    assert told.keys() == {secret.partition("=")[0]}
    assert "hunter2" not in str(told)


def test_a_part_of_a_secret_or_its_version_before_can_be_named() -> None:
    secrets = (
        f"EXA_PASSWORD={SECRET}db-AbCdEf:password::",
        f"HOLDFAST_STORAGE_KEY_PREVIOUS={SECRET}key-AbCdEf::AWSPREVIOUS:",
    )
    assert rendered_definition(assignments(), secrets=secrets)


@pytest.mark.parametrize("cpu", MEMORY_OF_CPU)
def test_every_size_that_fargate_has_can_be_chosen(cpu: str) -> None:
    for memory in MEMORY_OF_CPU[cpu]:
        assert rendered_definition(assignments(CPU=cpu, MEMORY=str(memory)))["memory"] == str(memory)


def test_every_placeholder_is_documented_with_its_default_and_every_documented_one_is_there() -> None:
    table = PAGE.partition("| placeholder |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (?:`(.*)`)? ?\|$", table, flags=re.MULTILINE)
    documented = {name: (what, default or None) for name, what, default in rows}
    assert documented == {name: (each.what, each.default) for name, each in DOCUMENTED.items()}
    assert set(PLACEHOLDER.findall((FARGATE / TEMPLATE).read_text())) == DOCUMENTED.keys()
