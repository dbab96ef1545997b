#!/usr/bin/env bash
# Makes what tests/importers imports from: an environment each with the real packages of other servers, as they come.
# Does nothing where they are up to date. Prints the interpreter of the one that is asked for.
# usage: scripts/import-sources.sh fastmcp-2|fastmcp-4|memory-service
set -euo pipefail
cd "$(dirname "$0")/.."

# The interpreter that the development environment is made of.
base_python() {
	[ -x .venv/bin/python ] || scripts/dev-environment.sh
	.venv/bin/python -c 'import sys; print(sys._base_executable)'
}

# usage: fingerprint PYTHON CONSTRAINTS
# Changes whenever the environment would come out different.
fingerprint() {
	"$1" --version
	sha256sum "$2" scripts/import-sources.sh
}

# usage: make_venv PYTHON CONSTRAINTS VENV
make_venv() {
	echo "Installing $2 into $3" >&2
	rm -rf "$3"
	"$1" -m venv "$3"
	"$3/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
		--requirement "$2" >&2
}

main() {
	local constraints=tests/importers/constraints-$1.txt venv=.cache/import-sources/$1 python
	if [ ! -f "$constraints" ]; then
		echo "error: there is no $constraints" >&2
		exit 2
	fi
	python=$(base_python)
	if ! fingerprint "$python" "$constraints" | cmp --silent - "$venv/fingerprint"; then
		make_venv "$python" "$constraints" "$venv"
		fingerprint "$python" "$constraints" >"$venv/fingerprint"
	fi
	echo "$PWD/$venv/bin/python"
}

main "$@"
