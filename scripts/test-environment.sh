#!/usr/bin/env bash
# Makes what tests start beside Holdfast, compare it with and import from: an environment each with the real packages of
# another server, as they come. `fastmcp-3` and `fastmcp-4` have the very packages of constraints.txt and of
# constraints-fastmcp4.txt, neither patched nor wrapped; `holdfast-fastmcp3` and `holdfast-fastmcp4` have them with our
# patches and Holdfast, and nothing else, as the images do: .venv has the former beside all that tests and linters need.
# Without our patches exasol's server needs what Holdfast leaves out, so `fastmcp-3` has that.
# `servers` has what bench/ serves Holdfast by that is not in .venv.
# Does nothing where it is up to date. Prints its interpreter.
# usage: scripts/test-environment.sh NAME, one of canaille, fastmcp-2, fastmcp-3, fastmcp-4, holdfast-fastmcp3,
# holdfast-fastmcp4, memory-service and servers
set -euo pipefail
cd "$(dirname "$0")/.."

# The interpreter that the development environment is made of.
base_python() {
	[ -x .venv/bin/python ] || scripts/dev-environment.sh
	.venv/bin/python -c 'import sys; print(sys._base_executable)'
}

# usage: constraints_of NAME
# The lock files, one a line.
constraints_of() {
	case $1 in
	fastmcp-3) printf '%s\n' constraints.txt constraints-excluded.txt ;;
	holdfast-fastmcp3) echo constraints.txt ;;
	fastmcp-4 | holdfast-fastmcp4) echo constraints-fastmcp4.txt ;;
	servers) echo bench/constraints-servers.txt ;;
	*) compgen -G "tests/*/constraints-$1.txt" ;;
	esac
}

# usage: fingerprint PYTHON VENV CONSTRAINTS...
# Changes whenever the environment would come out different.
fingerprint() {
	"$1" --version
	sha256sum "${@:3}" scripts/test-environment.sh scripts/install-locked.sh
	if has_holdfast "$2"; then
		sha256sum patches/series* patches/*.patch patches/*/*.patch scripts/apply-patches.sh pyproject.toml
	fi
}

# usage: has_holdfast VENV
has_holdfast() {
	[[ ${1##*/} == holdfast-* ]]
}

# usage: make_venv PYTHON VENV CONSTRAINTS...
make_venv() {
	.venv/bin/uv venv --quiet --clear --python "$1" "$2"
	scripts/install-locked.sh "${@:2}"
	if has_holdfast "$2"; then
		scripts/apply-patches.sh "$("$2/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" >&2
		install_holdfast "$2"
	fi
}

# usage: install_holdfast VENV
# As .venv has it: what is changed in src counts at once.
install_holdfast() {
	.venv/bin/python -m hatchling build --target wheel:editable --directory "$1/wheel" >&2
	.venv/bin/uv pip install --quiet --python "$1/bin/python" --no-deps --no-index "$1"/wheel/*.whl >&2
}

main() {
	local venv=.cache/test-environments/$1 python
	local -a constraints
	mapfile -t constraints < <(constraints_of "$1")
	if [ ${#constraints[@]} -eq 0 ]; then
		echo "error: there is no tests/*/constraints-$1.txt" >&2
		exit 2
	fi
	python=$(base_python)
	# Tests that run side by side may each want it.
	mkdir -p .cache/test-environments
	exec 9>"$venv.lock"
	flock 9
	if ! fingerprint "$python" "$venv" "${constraints[@]}" | cmp --silent - "$venv/fingerprint"; then
		make_venv "$python" "$venv" "${constraints[@]}"
		fingerprint "$python" "$venv" "${constraints[@]}" >"$venv/fingerprint"
	fi
	echo "$PWD/$venv/bin/python"
}

main "$@"
