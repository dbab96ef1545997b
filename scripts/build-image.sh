#!/usr/bin/env bash
# Builds the image. Usage: build-image.sh [TAG], by default IMAGE as in compose/*.yaml, else holdfast.
set -euo pipefail
cd "$(dirname "$0")/.."

# The bundle of a machine whose network inspects TLS. Python and curl look at the same variables.
ca_bundle() {
	local bundle=${PIP_CERT:-${REQUESTS_CA_BUNDLE:-${SSL_CERT_FILE:-}}}
	if [ -r "$bundle" ]; then
		echo "$bundle"
	else
		echo /dev/null
	fi
}

version() {
	sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml
}

main() {
	local docker base
	docker=$(scripts/find-or-install-engine.sh)
	base=$(scripts/base-image.sh)
	DOCKER_BUILDKIT=1 "$docker" build . \
		--progress plain \
		--tag "${1:-${IMAGE:-holdfast}}" \
		--secret "id=ca-bundle,src=$(ca_bundle)" \
		--build-arg "BASE_IMAGE=$base" \
		--build-arg "VERSION=$(version)" \
		--build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
		--build-arg "CREATED=$(git log -1 --format=%cI 2>/dev/null || echo 1970-01-01T00:00:00Z)"
}

main "$@"
