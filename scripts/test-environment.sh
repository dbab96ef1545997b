#!/usr/bin/env bash
# Makes what tests start beside Holdfast, compare it with and import from: an environment each with the real packages of
# another server, as they come. `fastmcp-3` has the very packages of constraints.txt, neither patched nor wrapped.
# Does nothing where it is up to date. Prints its interpreter.
# usage: scripts/test-environment.sh canaille|fastmcp-2|fastmcp-3|fastmcp-4|memory-service
set -euo pipefail
cd "$(dirname "$0")/.."

# The interpreter that the development environment is made of.
base_python() {
	[ -x .venv/bin/python ] || scripts/dev-environment.sh
	.venv/bin/python -c 'import sys; print(sys._base_executable)'
}

# usage: constraints_of NAME
constraints_of() {
	if [ "$1" = fastmcp-3 ]; then
		echo constraints.txt
	else
		compgen -G "tests/*/constraints-$1.txt"
	fi
}

# usage: fingerprint PYTHON CONSTRAINTS
# Changes whenever the environment would come out different.
fingerprint() {
	"$1" --version
	sha256sum "$2" scripts/test-environment.sh scripts/install-locked.sh
}

# usage: make_venv PYTHON CONSTRAINTS VENV
make_venv() {
	.venv/bin/uv venv --quiet --clear --python "$1" "$3"
	scripts/install-locked.sh "$3" "$2"
}

main() {
	local constraints venv=.cache/test-environments/$1 python
	if ! constraints=$(constraints_of "$1"); then
		echo "error: there is no tests/*/constraints-$1.txt" >&2
		exit 2
	fi
	python=$(base_python)
	# Tests that run side by side may each want it.
	mkdir -p .cache/test-environments
	exec 9>"$venv.lock"
	flock 9
	if ! fingerprint "$python" "$constraints" | cmp --silent - "$venv/fingerprint"; then
		make_venv "$python" "$constraints" "$venv"
		fingerprint "$python" "$constraints" >"$venv/fingerprint"
	fi
	echo "$PWD/$venv/bin/python"
}

main "$@"
