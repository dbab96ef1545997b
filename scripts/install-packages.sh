#!/usr/bin/env bash
# Installs the Debian packages that are missing. Usage: install-packages.sh PACKAGE...
set -euo pipefail

is_installed() {
	[ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

main() {
	local package
	local -a missing=()

	if ! command -v apt-get >/dev/null; then
		echo "error: this system has no apt-get. Install what Debian calls $* by its own means, then run this again" >&2
		exit 1
	fi
	for package in "$@"; do
		is_installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	if [ "$(id -u)" -ne 0 ]; then
		echo "error: ${missing[*]} missing, which only root can install. Run: sudo apt-get install ${missing[*]}" >&2
		exit 1
	fi
	# Tests that run side by side may each want packages, and apt-get refuses to wait for another one's lists.
	exec 9>/tmp/holdfast-packages.lock
	flock 9
	echo "Installing ${missing[*]}" >&2
	export DEBIAN_FRONTEND=noninteractive
	apt-get update --quiet=2 >&2
	apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}" >&2
}

main "$@"
