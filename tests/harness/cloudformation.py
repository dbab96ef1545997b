"""What a CloudFormation template comes to with given parameters, as far as that is known before anything is made."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfnlint.decode import cfn_yaml  # type: ignore[import-untyped]

ACCOUNT, REGION = "111122223333", "eu-central-1"
PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "holdfast",
}

Values = dict[str, Any]


class _NoValue:
    """AWS::NoValue."""


class Template:
    """A template on disk. A resource is known by its name: `Ref` gives NAME, `Fn::GetAtt` gives NAME.ATTRIBUTE."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw: Values = json.loads(json.dumps(cfn_yaml.load(str(path)), default=str))

    @property
    def parameters(self) -> Mapping[str, Values]:
        parameters: Mapping[str, Values] = self.raw["Parameters"]
        return parameters

    def resources(self, **parameters: str) -> dict[str, Values]:
        """The resources that these parameters make, by name."""
        return _Resolution(self.raw, parameters).section("Resources")

    def outputs(self, **parameters: str) -> dict[str, Values]:
        return _Resolution(self.raw, parameters).section("Outputs")


class _Resolution:
    def __init__(self, raw: Values, parameters: Mapping[str, str]) -> None:
        self._raw = raw
        defaults = {name: str(given["Default"]) for name, given in raw["Parameters"].items() if "Default" in given}
        self._known: dict[str, Any] = {**PSEUDO_PARAMETERS, **defaults, **parameters, "AWS::NoValue": _NoValue}
        missing = raw["Parameters"].keys() - self._known.keys()
        assert not missing, f"no value for {missing}"

    def section(self, name: str) -> dict[str, Values]:
        there = {
            name: resource
            for name, resource in self._raw[name].items()
            if "Condition" not in resource or self._holds(resource["Condition"])
        }
        return {name: self.resolve(resource) for name, resource in there.items()}

    def resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [item for item in map(self.resolve, node) if item is not _NoValue]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, argument),) = node.items()
            if function == "Ref" or function.startswith("Fn::"):
                return self._call(function, argument)
        resolved = {key: self.resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not _NoValue}

    def _call(self, function: str, argument: Any) -> Any:
        match function:
            case "Ref":
                return self._known.get(argument, argument)
            case "Fn::GetAtt":
                return ".".join(argument) if isinstance(argument, list) else argument
            case "Fn::If":
                condition, if_true, if_false = argument
                return self.resolve(if_true if self._holds(condition) else if_false)
            case "Fn::Sub":
                text, values = argument if isinstance(argument, list) else (argument, {})
                known = {**self._known, **self.resolve(values)}
                return re.sub(r"\$\{([\w.:]+)\}", lambda match: str(known.get(match[1], match[1])), text)
            case "Fn::Select":
                index, items = argument
                return self.resolve(items)[int(index)]
            case "Fn::Split":
                delimiter, text = argument
                return self.resolve(text).split(delimiter)
            case _:
                raise NotImplementedError(function)

    def _holds(self, condition: Any) -> bool:
        if isinstance(condition, str):
            return self._holds(self._raw["Conditions"][condition])
        ((function, argument),) = condition.items()
        match function:
            case "Condition":
                return self._holds(argument)
            case "Fn::Equals":
                one, other = map(self.resolve, argument)
                return bool(one == other)
            case "Fn::Not":
                return not self._holds(argument[0])
            case "Fn::And":
                return all(map(self._holds, argument))
            case "Fn::Or":
                return any(map(self._holds, argument))
            case _:
                raise NotImplementedError(function)
