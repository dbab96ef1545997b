#!/usr/bin/env bash
# Prints the directory of prometheus and promtool, for tests. Where there are none, Debian's package is unpacked into
# .cache: installed, it would start a server.
set -euo pipefail

cache="$(cd "$(dirname "$0")/.." && pwd)/.cache/prometheus"

fetch() {
	local directory
	# Tests that run side by side may each want packages.
	exec 9>/tmp/holdfast-packages.lock
	flock 9
	[ ! -e "$cache" ] || return 0
	directory=$(mktemp -d)
	echo "Fetching Debian's package prometheus" >&2
	(
		cd "$directory"
		apt-get download --quiet=2 prometheus >&2 || {
			apt-get update --quiet=2 >&2
			apt-get download --quiet=2 prometheus >&2
		}
		dpkg --extract prometheus_*.deb unpacked
	)
	mkdir -p "$(dirname "$cache")"
	mv --no-target-directory "$directory/unpacked" "$cache"
	rm -r "$directory"
}

main() {
	local found
	if found=$(command -v promtool) && command -v prometheus >/dev/null; then
		dirname "$found"
	else
		fetch
		echo "$cache/usr/bin"
	fi
}

main "$@"
