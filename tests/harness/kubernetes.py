"""The manifests as `kubectl apply --kustomize` would send them, made by kubectl's own kustomize."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "kubernetes"
KUBECTL = Path(sys.executable).with_name("kubectl")


def kubectl(*arguments: str) -> str:
    """Run kubectl where it knows of no cluster; returns what it prints."""
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    done = subprocess.run([KUBECTL, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"kubectl {' '.join(arguments)}:\n{done.stderr}")
    return done.stdout


@dataclass(frozen=True)
class Manifests:
    """What one directory with a kustomization.yaml comes to."""

    documents: tuple[dict[str, Any], ...]

    @classmethod
    def build(cls, directory: Path) -> "Manifests":
        return cls(tuple(yaml.safe_load_all(kubectl("kustomize", str(directory)))))

    def __getitem__(self, kind: str) -> dict[str, Any]:
        (only,) = [document for document in self.documents if document["kind"] == kind]
        return only

    def __contains__(self, kind: str) -> bool:
        return any(document["kind"] == kind for document in self.documents)

    @property
    def template(self) -> dict[str, Any]:
        template: dict[str, Any] = self["Deployment"]["spec"]["template"]
        return template

    @property
    def pod(self) -> dict[str, Any]:
        pod: dict[str, Any] = self.template["spec"]
        return pod

    @property
    def container(self) -> dict[str, Any]:
        (only,) = self.pod["containers"]
        assert isinstance(only, dict)
        return only

    @property
    def settings(self) -> dict[str, str]:
        settings: dict[str, str] = self["ConfigMap"]["data"]
        return settings

    @property
    def volumes(self) -> dict[str, dict[str, Any]]:
        """Each volume by the path at which the container has it."""
        named = {volume["name"]: volume for volume in self.pod["volumes"]}
        return {mount["mountPath"]: named[mount["name"]] for mount in self.container["volumeMounts"]}
