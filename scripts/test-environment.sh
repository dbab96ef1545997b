#!/usr/bin/env bash
# Makes what tests start beside Holdfast, and what tests/importers imports from: an environment each with the real
# packages of another server, as they come.
# Does nothing where it is up to date. Prints its interpreter.
# usage: scripts/test-environment.sh canaille|fastmcp-2|fastmcp-4|memory-service
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
	sha256sum "$2" scripts/test-environment.sh
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
	local constraints venv=.cache/test-environments/$1 python
	constraints=$(compgen -G "tests/*/constraints-$1.txt" || true)
	if [ ! -f "$constraints" ]; then
		echo "error: there is no tests/*/constraints-$1.txt" >&2
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
