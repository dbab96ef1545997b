"""Print how this image was built, as the predicate of a SLSA provenance (https://slsa.dev/spec/v1.0/provenance).

What GitHub Actions says of the run that this is part of; elsewhere the commit in this work tree, built by nobody known.
cosign adds the image that it is about.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def main() -> None:
    json.dump(of_workflow(os.environ) if os.environ.get("GITHUB_ACTIONS") == "true" else of_work_tree(), sys.stdout)


def of_workflow(github: os._Environ[str]) -> dict[str, Any]:
    """As https://actions.github.io/buildtypes/workflow/v1 has it."""
    repository = f"{github['GITHUB_SERVER_URL']}/{github['GITHUB_REPOSITORY']}"
    reference = github["GITHUB_REF"]
    path = github["GITHUB_WORKFLOW_REF"].partition("@")[0].removeprefix(f"{github['GITHUB_REPOSITORY']}/")
    return {
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {"workflow": {"ref": reference, "repository": repository, "path": path}},
            "internalParameters": {
                "github": {
                    "event_name": github["GITHUB_EVENT_NAME"],
                    "repository_id": github["GITHUB_REPOSITORY_ID"],
                    "repository_owner_id": github["GITHUB_REPOSITORY_OWNER_ID"],
                    "runner_environment": github["RUNNER_ENVIRONMENT"],
                }
            },
            "resolvedDependencies": [source(f"git+{repository}@{reference}", github["GITHUB_SHA"])],
        },
        "runDetails": {
            "builder": {"id": f"https://github.com/actions/runner/{github['RUNNER_ENVIRONMENT']}"},
            "metadata": {
                "invocationId": f"{repository}/actions/runs/{github['GITHUB_RUN_ID']}"
                f"/attempts/{github['GITHUB_RUN_ATTEMPT']}"
            },
        },
    }


def of_work_tree() -> dict[str, Any]:
    return {
        "buildDefinition": {
            "buildType": "urn:holdfast:scripts/build-image.sh",
            "externalParameters": {},
            "resolvedDependencies": [source("git+file:holdfast", git("rev-parse", "HEAD"))],
        },
        "runDetails": {
            "builder": {"id": "urn:holdfast:a-machine-that-nobody-vouches-for"},
            "metadata": {"finishedOn": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
        },
    }


def source(uri: str, commit: str) -> dict[str, Any]:
    return {"uri": uri, "digest": {"gitCommit": commit}}


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
