#!/usr/bin/env bash
# Runs Docker Compose 2 with the given arguments. Where the engine came without it, takes Debian's build.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly unpacked=.cache/docker-compose

# The base image has apt and Debian's package lists, so this works on any system, whatever its own packages are.
unpack_compose() {
	local docker=$1
	echo "Fetching Docker Compose from Debian's packages" >&2
	mkdir -p "$(dirname "$unpacked")"
	"$docker" run --rm "$(scripts/base-image.sh)" sh -euc '
		cd /tmp
		apt-get update --quiet=2 >&2
		apt-get download --quiet=2 docker-compose >&2
		dpkg-deb --fsys-tarfile ./*.deb | tar --extract --to-stdout ./usr/libexec/docker/cli-plugins/docker-compose
	' >"$unpacked.part"
	chmod +x "$unpacked.part"
	mv "$unpacked.part" "$unpacked"
}

main() {
	local docker
	docker=$(scripts/find-or-install-engine.sh)
	if "$docker" compose version >/dev/null 2>&1; then
		exec "$docker" compose "$@"
	fi
	[ -x "$unpacked" ] || unpack_compose "$docker"
	exec "$unpacked" "$@"
}

main "$@"
