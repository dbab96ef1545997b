"""Print fargate/task-definition.json with somebody's own values in it."""

import difflib
import ipaddress
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any

from cyclopts import Parameter

from mcp_holdfast.cli.beside import EXIT_USAGE
from mcp_holdfast.settings import ConfigurationError, Environment, Problem, load_settings, variable_names

TEMPLATE = "task-definition.json"
"""A link to the one in fargate/; the wheel has it as a file."""

PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)

MEMORY_OF_CPU: Mapping[str, Iterable[int]] = {
    "256": (512, 1024, 2048),
    "512": range(1024, 4096 + 1, 1024),
    "1024": range(2048, 8192 + 1, 1024),
    "2048": range(4096, 16384 + 1, 1024),
    "4096": range(8192, 30720 + 1, 1024),
    "8192": range(16384, 61440 + 1, 4096),
    "16384": range(32768, 122880 + 1, 8192),
}
"""MiB by CPU units (Amazon ECS, "Task CPU and memory" of Fargate task definition parameters)."""

SECRET_WORDS = {"PASSWORD", "SECRET", "TOKEN", "KEY", "PIN", "PAT", "PREVIOUS"}
SECRET_NAMES = {"HOLDFAST_STORAGE_URL"}


@dataclass(frozen=True)
class Placeholder:
    """One `${NAME}` of the template: what it stands for, what it may be, and what it is if nobody says."""

    what: str
    pattern: str
    example: str
    default: str | None = None
    remedy: str = ""
    """What to do about another value, where that is more than to look at the example."""


ROLE_ARN = r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+"
SECRET_ARN = r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[\w/+=.@-]+-\w{6}(:[^:]*:[^:]*:[^:]*)?"  # noqa: S105  # what one looks like
SECRET_ARN_EXAMPLE = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:holdfast/{}-AbCdEf"  # noqa: S105

PLACEHOLDERS: Mapping[str, Placeholder] = {
    "IMAGE": Placeholder(
        "the image in your registry, with a tag other than latest or a digest",
        r"(?!.*:latest$)[a-z0-9][\w.:/-]*/[\w./-]+(:[\w][\w.-]*|@sha256:[0-9a-f]{64})",
        "111122223333.dkr.ecr.eu-central-1.amazonaws.com/holdfast:0.1.0",
    ),
    "REGION": Placeholder("the AWS region", r"[a-z]{2}(-[a-z]+)+-\d", "eu-central-1"),
    "BASE_URL": Placeholder(
        "the URL that clients use: https and one host, without /mcp or a slash behind it",
        r"https://[^\s/,]+",
        "https://mcp.example.com",
    ),
    "PROXY_ADDRESSES": Placeholder(
        "the networks of the load balancer, separated by commas",
        r"[0-9a-fA-F.:/]+(,[0-9a-fA-F.:/]+)*",
        "10.0.0.0/24,10.0.1.0/24",
    ),
    "EXECUTION_ROLE_ARN": Placeholder(
        "the role that pulls the image and reads the secrets",
        ROLE_ARN,
        "arn:aws:iam::111122223333:role/holdfast-execution",
    ),
    "TASK_ROLE_ARN": Placeholder(
        "the role that mounts the volume", ROLE_ARN, "arn:aws:iam::111122223333:role/holdfast-task"
    ),
    "FILE_SYSTEM_ID": Placeholder("the EFS file system", r"fs-[0-9a-f]{8,40}", "fs-0123456789abcdef0"),
    "ACCESS_POINT_ID": Placeholder("its access point for user 10001", r"fsap-[0-9a-f]{8,40}", "fsap-0123456789abcdef0"),
    "PIN_SECRET_ARN": Placeholder("the secret with the sign-in PIN", SECRET_ARN, SECRET_ARN_EXAMPLE.format("pin")),
    "SIGNING_KEY_SECRET_ARN": Placeholder(
        "the secret with the key that signs tokens", SECRET_ARN, SECRET_ARN_EXAMPLE.format("signing-key")
    ),
    "STORAGE_KEY_SECRET_ARN": Placeholder(
        "the secret with the key that seals the store", SECRET_ARN, SECRET_ARN_EXAMPLE.format("storage-key")
    ),
    "CPU_ARCHITECTURE": Placeholder(
        "what the image was built for", "X86_64|ARM64", "ARM64", "X86_64", "Choose X86_64 or ARM64"
    ),
    "CPU": Placeholder(
        "CPU units, of which 1024 are a CPU",
        "|".join(MEMORY_OF_CPU),
        "512",
        "512",
        f"Choose one of {', '.join(MEMORY_OF_CPU)}",
    ),
    "MEMORY": Placeholder("memory in MiB", r"\d+", "1024", "1024"),
    "LOG_GROUP": Placeholder("the log group, which must exist", r"[\w./#-]{1,512}", "/ecs/holdfast", "/ecs/holdfast"),
}


def render(
    *values: Annotated[str, Parameter(help="NAME=VALUE for each placeholder; without any, they are listed")],
    setting: Annotated[tuple[str, ...], Parameter(negative="", help="NAME=VALUE, one more environment variable")] = (),
    secret: Annotated[
        tuple[str, ...], Parameter(negative="", help="NAME=ARN, one more variable, from Secrets Manager")
    ] = (),
) -> int:
    """Print the task definition, for `aws ecs register-task-definition --cli-input-json`."""
    if not (values or setting or secret):
        print("\n".join(_listed_placeholders()))
        return 0
    try:
        rendered = rendered_definition(values, setting, secret)
    except ConfigurationError as error:
        sys.stderr.write(f"The task definition cannot be rendered:\n{error}\n")
        return EXIT_USAGE
    print(json.dumps(rendered, indent=2))
    return 0


def _listed_placeholders() -> Iterator[str]:
    yield "Give each of these as NAME=VALUE; one with a default can be left out:"
    for name, placeholder in PLACEHOLDERS.items():
        value = f"by default {placeholder.default}" if placeholder.default else f"such as {placeholder.example}"
        yield f"  {name}: {placeholder.what}, {value}"
    yield "Further variables are given with --setting NAME=VALUE and --secret NAME=ARN."


def rendered_definition(
    values: Iterable[str], settings: Iterable[str] = (), secrets: Iterable[str] = ()
) -> dict[str, Any]:
    """The task definition with these values, settings and secrets, each as NAME=VALUE.

    Raises:
        ConfigurationError: with every value that is missing, malformed or not known.

    """
    problems: list[Problem] = []
    given = dict(_assignments(values, problems))
    plain, sealed = dict(_assignments(settings, problems)), dict(_assignments(secrets, problems))
    problems += [*_placeholder_problems(given)]
    template = json.loads(files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
    taken = _variables_of(template)
    problems += [*_variable_problems(plain, sealed, taken)]
    known = {name: placeholder.default or "" for name, placeholder in PLACEHOLDERS.items()} | given
    definition: dict[str, Any] = _filled(template, known)
    (container,) = definition["containerDefinitions"]
    container["environment"] += [{"name": name, "value": value} for name, value in plain.items()]
    container["secrets"] += [{"name": name, "valueFrom": value} for name, value in sealed.items()]
    if not problems:
        # What the server itself would refuse.
        environment = {entry["name"]: entry["value"] for entry in container["environment"]}
        refused = load_settings(Environment(environment))[1]
        problems += [_of_what_was_given(each, taken.get(each.variable)) for each in refused]
    if problems:
        raise ConfigurationError(problems)
    return definition


def _variables_of(template: Mapping[str, Any]) -> Mapping[str, str | None]:
    """Each variable that the template sets, with the placeholder that is its value, if one is."""
    (container,) = template["containerDefinitions"]
    values = {each["name"]: each["value"] for each in container["environment"]}
    values |= {each["name"]: each["valueFrom"] for each in container["secrets"]}
    placeholders = {name: PLACEHOLDER.fullmatch(value) for name, value in values.items()}
    return {name: match and match[1] for name, match in placeholders.items()}


def _of_what_was_given(problem: Problem, placeholder: str | None) -> Problem:
    return Problem(placeholder, problem.what, _remedy(placeholder)) if placeholder else problem


def _remedy(name: str) -> str:
    return PLACEHOLDERS[name].remedy or f"Write it as in {name}={PLACEHOLDERS[name].example}"


def _assignments(given: Iterable[str], problems: list[Problem]) -> Iterator[tuple[str, str]]:
    seen = set()
    for assignment in given:
        name, equals, value = assignment.partition("=")
        if not equals:
            problems.append(Problem(name, "has no value", f"Write {name}=VALUE"))
        elif name in seen:
            problems.append(Problem(name, "is given twice", "Leave one of them out"))
        else:
            yield name, value
        seen.add(name)


def _placeholder_problems(given: Mapping[str, str]) -> Iterator[Problem]:
    for name in given.keys() - PLACEHOLDERS.keys():
        close = difflib.get_close_matches(name.upper(), PLACEHOLDERS, n=1)
        remedy = f"Write {close[0]}" if close else "A setting of the server is given with --setting"
        yield Problem(name, "is no placeholder", remedy)
    for name, placeholder in PLACEHOLDERS.items():
        value = given.get(name, placeholder.default)
        if not value:
            yield Problem(name, "is missing", f"Give {placeholder.what}: {name}={placeholder.example}")
        elif not re.fullmatch(placeholder.pattern, value, re.ASCII):
            yield Problem(name, f"is not {placeholder.what}", _remedy(name))
        elif name == "PROXY_ADDRESSES":
            yield from _network_problems(value)
    cpu, memory = (given.get(name, PLACEHOLDERS[name].example) for name in ("CPU", "MEMORY"))
    if cpu in MEMORY_OF_CPU and memory.isdecimal() and int(memory) not in MEMORY_OF_CPU[cpu]:
        possible = ", ".join(map(str, MEMORY_OF_CPU[cpu]))
        yield Problem("MEMORY", f"Fargate has no {memory} MiB with {cpu} CPU units", f"Choose one of {possible}")


def _network_problems(addresses: str) -> Iterator[Problem]:
    for address in addresses.split(","):
        try:
            interface = ipaddress.ip_interface(address)
        except ValueError:
            what = f"{address} is neither a network nor an address"
            yield Problem("PROXY_ADDRESSES", what, _remedy("PROXY_ADDRESSES"))
            continue
        if interface.ip != interface.network.network_address:
            what = f"{address} is an address with the size of its network"
            yield Problem("PROXY_ADDRESSES", what, f"Write {interface.network}")


def _variable_problems(
    plain: Mapping[str, str], sealed: Mapping[str, str], taken: Mapping[str, str | None]
) -> Iterator[Problem]:
    for name in dict.fromkeys([*plain, *sealed]):
        if not VARIABLE.fullmatch(name):
            yield Problem(name, "is no name of a variable", "Use letters, digits and _")
        elif name in taken:
            remedy = f"Give {taken[name]} instead" if taken[name] else "Leave it out"
            yield Problem(name, "is in the task definition already", remedy)
        elif name in plain and name in sealed:
            yield Problem(name, "is given as a setting and as a secret", "Leave one of them out")
        elif name.startswith("HOLDFAST_") and name not in variable_names():
            close = difflib.get_close_matches(name, variable_names(), n=1)
            yield Problem(name, "is no setting", f"Write {close[0]}" if close else "README.md lists them")
    for name in [name for name in plain if name not in {*taken, *sealed}]:
        if name in SECRET_NAMES or name.rpartition("_")[2] in SECRET_WORDS:
            yield Problem(name, "would be readable for all who may describe the task", "Give its ARN with --secret")
    for name, value in sealed.items():
        if not re.fullmatch(SECRET_ARN, value, re.ASCII):
            what = "is not the full ARN of a secret in Secrets Manager"
            yield Problem(name, what, f"Write it as in {name}={SECRET_ARN_EXAMPLE.format('exa-password')}")


def _filled(part: Any, values: Mapping[str, str]) -> Any:
    if isinstance(part, str):
        return PLACEHOLDER.sub(lambda match: values[match[1]], part)
    if isinstance(part, list):
        return [_filled(item, values) for item in part]
    if isinstance(part, dict):
        return {key: _filled(value, values) for key, value in part.items()}
    return part
