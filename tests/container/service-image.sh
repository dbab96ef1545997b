#!/usr/bin/env bash
# Prints the name of an image of a service: the one that a file in compose/ names where a registry has it, else one made
# here from Debian's package that is started the same way. Progress goes to standard error.
# Usage: service-image.sh haproxy|postgres|redis
set -euo pipefail
cd "$(dirname "$0")/../.."

# usage: named_in_compose SERVICE
named_in_compose() {
	sed -n "s/.*{${1^^}_IMAGE:-\(.*\)}$/\1/p" compose/*.yaml
}

# usage: make_image DOCKER SERVICE TAG
make_image() {
	echo "Making $3 from Debian's package" >&2
	DOCKER_BUILDKIT=1 "$1" build tests/container --quiet --file "tests/container/$2.Dockerfile" --tag "$3" \
		--build-arg "BASE_IMAGE=$(scripts/base-image.sh)" >&2
}

main() {
	local docker image
	docker=$(scripts/find-or-install-engine.sh)
	image=$(named_in_compose "$1")
	if "$docker" image inspect "$image" >/dev/null 2>&1 || "$docker" pull --quiet "$image" >&2; then
		echo "$image"
		return
	fi
	make_image "$docker" "$1" "localhost/$1:trixie"
	echo "localhost/$1:trixie"
}

main "$@"
