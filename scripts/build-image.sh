#!/usr/bin/env bash
# Builds an image. Usage: build-image.sh [TAG [TARGET [FLAG...]]]
# TAG is by default IMAGE as in compose/*.yaml, else holdfast; TARGET is holdfast, base, fastmcp4 or debug
# (docs/image.md); flags are those of docker build.
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

# usage: commit FORMAT DEFAULT
# What git tells of the commit that is built.
commit() {
	git log -1 --format="$1" 2>/dev/null || echo "$2"
}

version() {
	sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml
}

main() {
	local docker base
	docker=$(scripts/find-or-install-engine.sh)
	base=$(scripts/base-image.sh)
	DOCKER_BUILDKIT=1 "$docker" build . "${@:3}" \
		--progress plain \
		--target "${2:-holdfast}" \
		--tag "${1:-${IMAGE:-holdfast}}" \
		--secret "id=ca-bundle,src=$(ca_bundle)" \
		--build-arg "BASE_IMAGE=$base" \
		--build-arg "VERSION=$(version)" \
		--build-arg "REVISION=$(commit %H unknown)" \
		--build-arg "CREATED=$(commit %cI 1970-01-01T00:00:00Z)" \
		--build-arg "SOURCE_DATE_EPOCH=$(commit %ct 0)"
}

main "$@"
