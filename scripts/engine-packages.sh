#!/usr/bin/env bash
# Installs what tests start: Redis, PostgreSQL and PgBouncer.
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
		package_of redis-server redis-server
		package_of pgbouncer pgbouncer
		[ -n "$(compgen -G '/usr/lib/postgresql/*/bin/postgres')" ] || echo postgresql
	)
	[ ${#packages[@]} -eq 0 ] || scripts/install-packages.sh "${packages[@]}"
}

main "$@"
