#!/usr/bin/env bash
# Prints the directory of cosign and of docker-registry, for tests. Debian's packages of trixie, unpacked into .cache: an older
# Debian has no cosign.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly unpacked=.cache/supply-chain

# The base image has apt and Debian's package lists, so this works on any system, whatever its own packages are.
unpack() {
	local docker
	docker=$(scripts/find-or-install-engine.sh)
	echo "Fetching cosign and a registry from Debian's packages" >&2
	mkdir -p "$unpacked.part"
	"$docker" run --rm "$(scripts/base-image.sh)" sh -euc '
		cd /tmp
		apt-get update --quiet=2 >&2
		apt-get download --quiet=2 cosign docker-registry >&2
		find . -name "*.deb" -exec dpkg-deb --extract {} unpacked ";"
		tar --create --directory unpacked/usr/bin cosign docker-registry
	' | tar --extract --directory "$unpacked.part"
	mv --no-target-directory "$unpacked.part" "$unpacked"
}

main() {
	[ -d "$unpacked" ] || unpack
	echo "$PWD/$unpacked"
}

main "$@"
