#!/usr/bin/env bash
# Installs what tests/nfs runs: an NFS server, User-Mode Linux with its NFS client, and what sets them up.
set -euo pipefail
cd "$(dirname "$0")/.."

# usage: package_of COMMAND PACKAGE...
# The Debian packages, unless their command is there already.
package_of() {
	command -v "$1" >/dev/null || printf '%s\n' "${@:2}"
}

main() {
	local -a packages
	mapfile -t packages < <(
		package_of linux.uml user-mode-linux
		package_of ganesha.nfsd nfs-ganesha nfs-ganesha-vfs
		package_of runc runc
		package_of modprobe kmod
		package_of ip iproute2
		package_of cc gcc libc6-dev
	)
	[ ${#packages[@]} -eq 0 ] || scripts/install-packages.sh "${packages[@]}"
}

main "$@"
