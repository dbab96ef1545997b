#!/usr/bin/env bash
# Makes what Holdfast is compared with: .venv-stock with the very packages of constraints.txt, neither patched nor
# wrapped. Does nothing where that is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly venv=.venv-stock

# The interpreter that the development environment is made of.
base_python() {
	[ -x .venv/bin/python ] || scripts/dev-environment.sh
	.venv/bin/python -c 'import sys; print(sys._base_executable)'
}

# Changes whenever .venv-stock would come out different.
fingerprint() {
	"$1" --version
	sha256sum constraints.txt scripts/stock-environment.sh
}

make_venv() {
	echo "Installing constraints.txt into $venv" >&2
	rm -rf "$venv"
	"$1" -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
		--requirement constraints.txt
}

main() {
	local python
	python=$(base_python)
	# Tests that run side by side may each want it.
	exec 9<"scripts/${0##*/}"
	flock 9
	if ! fingerprint "$python" | cmp --silent - "$venv/fingerprint"; then
		make_venv "$python"
		fingerprint "$python" >"$venv/fingerprint"
	fi
}

main "$@"
