"""The commands and examples of docs/fargate.md are what AWS, the stack, the module and the image take."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import hcl2
import pytest
from botocore import xform_name  # type: ignore[import-untyped]
from botocore.validate import ParamValidator  # type: ignore[import-untyped]

from fargate.test_stack import ALARMS, of_type, resources
from fargate.test_terraform import MODULE, parsed, plain
from harness.cloudformation import REGION
from harness.fargate import FARGATE, STACK
from mcp_holdfast.auth.providers import plan_provider
from mcp_holdfast.cli.fargate import rendered_definition
from mcp_holdfast.settings import Environment, load_settings

PAGE = (FARGATE.parent / "docs/fargate.md").read_text()
OF_THE_CLIENT = {"query", "output", "cli_input_json"}
"""Options that the AWS CLI has for every command."""

NOT_OF_THE_API = {("ecr", "get-login-password"), ("s3", "mb"), ("s3", "cp")}
"""Commands that the CLI makes of several calls."""


def blocks(language: str) -> list[str]:
    return [
        re.sub(r"^   ", "", found, flags=re.MULTILINE)
        for found in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    ]


def commands(program: str) -> list[list[str]]:
    lines = [line for block in blocks("console") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line.partition(" | ")[0]) for line in lines if line.split()[0] == program]


def parameter_file() -> str:
    (example,) = [block for block in blocks("json") if block.startswith("[")]
    return example


def parameters(file: str) -> dict[str, str]:
    entries = json.loads(file)
    named = {each["ParameterKey"]: each["ParameterValue"] for each in entries}
    assert len(named) == len(entries)
    return named


def refused(given: dict[str, str]) -> list[str]:
    """The names of parameters that the stack does not take, or not with this value."""
    return [
        name
        for name, value in given.items()
        if name not in STACK.parameters
        or not re.fullmatch(STACK.parameters[name].get("AllowedPattern", ".*"), value)
        or value not in STACK.parameters[name].get("AllowedValues", [value])
    ]


def options_of(words: list[str]) -> dict[str, list[str]]:
    options: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            options[word[2:].replace("-", "_")] = []
        else:
            options[next(reversed(options))].append(word)
    return options


@pytest.mark.parametrize("command", commands("aws"), ids=lambda words: " ".join(words[1:4]))
def test_aws_knows_the_command_and_its_options(command: list[str]) -> None:
    _, service, operation, *words = command
    if (service, operation) in NOT_OF_THE_API:
        return
    client = boto3.client(service, region_name=REGION, aws_access_key_id="none", aws_secret_access_key="none")
    if operation == "wait":
        waiter, *words = words
        assert waiter.replace("-", "_") in client.waiter_names
        operation = xform_name(
            client.waiter_names and client.get_waiter(waiter.replace("-", "_")).config.operation, "-"
        )
    names = {xform_name(name, "-"): name for name in client.meta.service_model.operation_names}
    shape = client.meta.service_model.operation_model(names[operation]).input_shape
    members = {xform_name(name): (name, member) for name, member in shape.members.items()}
    given = {name: values for name, values in options_of(words).items() if name not in OF_THE_CLIENT}
    switches = {name for name, (_, member) in members.items() if member.type_name == "boolean"}
    assert given.keys() <= members.keys()
    assert {name for name, values in given.items() if not values} <= switches
    required = {xform_name(name) for name in shape.required_members}
    assert required <= given.keys() or "cli_input_json" in options_of(words)
    scalars = {members[name][0]: values[0] for name, values in given.items() if members[name][1].type_name == "string"}
    report = ParamValidator().validate({**dict.fromkeys(shape.required_members, "x"), **scalars}, shape)
    assert not [line for line in report.generate_report().splitlines() if any(name in line for name in scalars)]


@pytest.mark.parametrize("command", [words for words in commands("aws") if "--overrides" in words])
def test_what_a_task_runs_instead_is_for_its_container(command: list[str]) -> None:
    overrides = json.loads(command[command.index("--overrides") + 1])
    shape = boto3.client("ecs", region_name=REGION).meta.service_model.operation_model("RunTask").input_shape
    report = ParamValidator().validate({"taskDefinition": "x", "overrides": overrides}, shape)
    assert not report.has_errors(), report.generate_report()
    (override,) = overrides["containerOverrides"]
    assert override["name"] == "holdfast"
    assert override["command"][0] == "holdfast"


def test_the_values_make_a_stack() -> None:
    given = parameters(parameter_file())
    assert refused(given) == []
    assert given["Tag"] == STACK.parameters["Tag"]["Default"]
    assert STACK.resources(**given)["Service"]["Properties"]["DesiredCount"] == "2"


@pytest.mark.parametrize("lines", [block for block in blocks("json") if block.startswith("  {")])
def test_lines_can_be_put_behind_the_bracket_of_the_file(lines: str) -> None:
    given = parameters(parameter_file().replace("[\n", f"[\n{lines}", 1))
    assert len(given) > len(parameters(parameter_file()))
    assert refused(given) == []
    assert STACK.resources(**given)


def test_every_edit_of_the_file_changes_one_parameter_to_one_that_the_stack_takes(tmp_path: Path) -> None:
    file = tmp_path / "holdfast.json"
    file.write_text(parameter_file())
    changed = []
    for command in commands("sed"):
        before = parameters(file.read_text())
        subprocess.run(command, cwd=tmp_path, check=True)
        after = parameters(file.read_text())
        assert refused(after) == []
        changed.append([(name, after[name]) for name in after if before[name] != after[name]])
    assert changed == [[("Tag", "0.2.0")], [("PreviousKeys", "storage")], [("PreviousKeys", "none")]]


def test_every_update_gives_all_parameters_and_is_waited_for() -> None:
    operations = [(words[2], words) for words in commands("aws") if words[1] == "cloudformation"]
    updates = [place for place, (operation, _) in enumerate(operations) if operation == "update-stack"]
    assert updates
    for place in updates:
        _, update = operations[place]
        assert options_of(update[3:])["parameters"] == ["file://holdfast.json"]
        assert operations[place + 1][1][2:4] == ["wait", "stack-update-complete"]


def test_the_network_is_quoted_since_a_shell_would_expand_its_braces() -> None:
    assert set(re.findall(r"--network-configuration (\S+)", PAGE)) == {"'TASK_NETWORK'"}


def test_the_words_in_capitals_are_outputs() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| `(\w+)` \| `(\w+)`(?:, `([\w-]+)`)? \|$", PAGE, flags=re.MULTILINE)
    assert {word for word, *_ in rows} >= {"CLUSTER", "SERVICE", "TASK_NETWORK", "PIN_SECRET"}
    outputs = {name for each in parsed(MODULE)["output"] for name in each}
    assert {output for _, output, _, _ in rows} <= STACK.raw["Outputs"].keys()
    assert {output for _, _, output, _ in rows} <= outputs


def test_the_stack_is_small_enough_to_be_given_as_a_body() -> None:
    # CloudFormation's quota for a template that does not come from S3.
    assert STACK.path.stat().st_size <= 51_200


def test_every_parameter_and_output_that_is_told_is_there() -> None:
    told = set(re.findall(r"`([A-Z][A-Za-z]*[a-z][A-Z][A-Za-z]*)`", PAGE))
    outputs = STACK.raw["Outputs"]
    assert told - STACK.parameters.keys() - outputs.keys() - of_type(
        resources("everything"), "AWS::CloudWatch::Alarm"
    ).keys() == {"TableThrottled"}


def test_every_alarm_is_explained() -> None:
    explained = set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Alarms")[2], flags=re.MULTILINE))
    alarms = {
        **of_type(resources("everything"), "AWS::CloudWatch::Alarm"),
        **of_type(resources("dynamodb"), "AWS::CloudWatch::Alarm"),
    }
    assert explained == alarms.keys()
    assert len(ALARMS) == len(alarms)


def test_the_settings_are_complete() -> None:
    (ini,) = blocks("ini")
    values = dict(line.split("=", 1) for line in ini.splitlines())
    values["FASTMCP_SERVER_AUTH_AZURE_CLIENT_SECRET"] = "a secret"
    environment = Environment({**values, "HOLDFAST_BASE_URL": "https://mcp.example.com"})
    assert load_settings(environment)[1] == []
    plan_provider(values["FASTMCP_SERVER_AUTH"], environment, base_url="https://mcp.example.com")


def test_the_module_is_given_what_it_needs() -> None:
    (block,) = blocks("hcl")
    (module,) = plain(hcl2.loads(block))["module"]
    given = module["holdfast"].keys() - {"source", "__is_block__"}
    variables = {name: each[name] for each in parsed(MODULE)["variable"] for name in each if name != "__is_block__"}
    assert given <= variables.keys()
    assert {name for name, each in variables.items() if "default" not in each} <= given


def test_the_task_definition_is_rendered() -> None:
    renders = [words[words.index("render") + 1 :] for words in commands("docker") if "render" in words]
    words = renders[-1][: renders[-1].index(">task.json")]
    options: dict[str, list[str]] = {"--setting": [], "--secret": []}
    values: list[str] = []
    remaining = iter(words)
    for word in remaining:
        (options[word].append(next(remaining)) if word in options else values.append(word))
    assert rendered_definition(values, options["--setting"], options["--secret"])


def test_the_second_volume_is_what_ecs_takes() -> None:
    (example,) = [json.loads(block) for block in blocks("json") if block.startswith("{")]
    shape = (
        boto3.client("ecs", region_name=REGION).meta.service_model.operation_model("RegisterTaskDefinition").input_shape
    )
    container = {"name": "holdfast", "mountPoints": example["mountPoints"]}
    definition = {"family": "x", "containerDefinitions": [container], "volumes": example["volumes"]}
    report = ParamValidator().validate(definition, shape)
    assert not report.has_errors(), report.generate_report()
