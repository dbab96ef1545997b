#!/usr/bin/env bash
# Prints the name of the image to build on: the one that the Dockerfile names where a registry has it, else the same
# Debian release made here from Debian's packages. Progress goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly made_here=localhost/debian:trixie-slim

named_in_dockerfile() {
	sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile
}

# What the official slim image leaves out, so that both have the same contents where it matters.
make_base_image() {
	local docker=$1
	scripts/install-packages.sh mmdebstrap debian-archive-keyring
	echo "Making $made_here from Debian's packages (about 40 seconds)" >&2
	# The archive is the same bit for bit while Debian's packages are, and so is every layer that is cached on top of it.
	SOURCE_DATE_EPOCH=0 mmdebstrap --variant=minbase --format=tar \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		trixie - | "$docker" import --change 'CMD ["bash"]' - "$made_here" >/dev/null
}

main() {
	local docker image
	docker=$(scripts/find-or-install-engine.sh)
	image=$(named_in_dockerfile)

	if "$docker" image inspect "$image" >/dev/null 2>&1; then
		echo "$image"
	elif "$docker" image inspect "$made_here" >/dev/null 2>&1; then
		echo "$made_here"
	elif "$docker" pull "$image" >&2; then
		echo "$image"
	else
		echo "No registry has $image for this machine" >&2
		make_base_image "$docker"
		echo "$made_here"
	fi
}

main "$@"
