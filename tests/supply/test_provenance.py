"""What a release says of its origin names the commit, the workflow and the run."""

import json
import subprocess
import sys
from typing import Any

from harness.container import ROOT

WORKFLOW = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_EVENT_NAME": "push",
    "GITHUB_REF": "refs/tags/v0.1.0",
    "GITHUB_REPOSITORY": "owner/holdfast",
    "GITHUB_REPOSITORY_ID": "1",
    "GITHUB_REPOSITORY_OWNER_ID": "2",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_RUN_ID": "3",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
    "GITHUB_WORKFLOW_REF": "owner/holdfast/.github/workflows/release.yaml@refs/tags/v0.1.0",
    "RUNNER_ENVIRONMENT": "github-hosted",
}


def provenance(environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "scripts" / "provenance.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_release_names_its_commit_its_workflow_and_its_run() -> None:
    found = provenance(WORKFLOW)
    assert found["buildDefinition"]["externalParameters"]["workflow"] == {
        "ref": "refs/tags/v0.1.0",
        "repository": "https://github.com/owner/holdfast",
        "path": ".github/workflows/release.yaml",
    }
    assert found["buildDefinition"]["resolvedDependencies"] == [
        {
            "uri": "git+https://github.com/owner/holdfast@refs/tags/v0.1.0",
            "digest": {"gitCommit": WORKFLOW["GITHUB_SHA"]},
        }
    ]
    assert found["runDetails"] == {
        "builder": {"id": "https://github.com/actions/runner/github-hosted"},
        "metadata": {"invocationId": "https://github.com/owner/holdfast/actions/runs/3/attempts/1"},
    }


def test_elsewhere_nobody_vouches_for_the_machine() -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = provenance({"PATH": "/usr/local/bin:/usr/bin:/bin"})
    (source,) = found["buildDefinition"]["resolvedDependencies"]
    assert source["digest"] == {"gitCommit": head.stdout.strip()}
    assert "nobody" in found["runDetails"]["builder"]["id"]
