#!/usr/bin/env bash
# Prints the name of an HAProxy image: the one that compose/replicas.yaml names where a registry has it, else one made
# here from Debian's package that is started the same way. Progress goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly made_here=localhost/haproxy:trixie

named_in_compose() {
	sed -n 's/.*{HAPROXY_IMAGE:-\(.*\)}$/\1/p' compose/replicas.yaml
}

# What the official image is to those who start it: its user, its signal to stop, and where it looks for the file.
make_image() {
	local docker=$1
	echo "Making $made_here from Debian's package" >&2
	DOCKER_BUILDKIT=1 "$docker" build --quiet --tag "$made_here" - >&2 <<-EOT
		FROM $(scripts/base-image.sh)
		RUN apt-get update && apt-get install --yes --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/*
		STOPSIGNAL SIGUSR1
		USER haproxy
		ENTRYPOINT ["haproxy", "-W", "-db"]
		CMD ["-f", "/usr/local/etc/haproxy/haproxy.cfg"]
	EOT
}

main() {
	local docker image
	docker=$(scripts/find-or-install-engine.sh)
	image=$(named_in_compose)
	if "$docker" image inspect "$image" >/dev/null 2>&1 || "$docker" pull "$image" >&2; then
		echo "$image"
		return
	fi
	"$docker" image inspect "$made_here" >/dev/null 2>&1 || make_image "$docker"
	echo "$made_here"
}

main "$@"
