#!/usr/bin/env bash
# Runs py-key-value's own tests of a store (BaseStoreTests) against each of our stores: tests/upstream/store_suite.py.
# No package has those tests, so they come from its repository, by the commit that we know.
# usage: upstream-store-suite.sh [PYTEST_OPTION...]
#   PY_KEY_VALUE=DIRECTORY  take the tests from a checkout of py-key-value instead
set -euo pipefail
cd "$(dirname "$0")/.."

readonly repository=https://github.com/strawgate/py-key-value
readonly commit=279e1ee26234577c4104c7e40cc83d8e1b27c554
readonly cache=.cache/upstream-store-suite
readonly suite=tests/stores/base.py

# usage: fetch_tests DIRECTORY
fetch_tests() {
	rm -rf "$1"
	git init --quiet "$1"
	echo "Fetching $repository" >&2
	if ! git -C "$1" fetch --quiet --depth 1 "$repository" "$commit"; then
		rm -rf "$1"
		echo "error: $repository cannot be reached; give a checkout of it: PY_KEY_VALUE=DIRECTORY $0" >&2
		exit 1
	fi
	git -C "$1" checkout --quiet "$commit"
}

# What the tests need and .venv does not have, as it is locked for FastMCP's own tests.
# usage: install_packages DIRECTORY
install_packages() {
	sed -n '/^dirty-equals==/,/[^\\]$/p' tests/upstream/constraints.txt >"$cache/requirement.txt"
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --upgrade \
		--target "$1" --requirement "$cache/requirement.txt"
}

main() {
	local checkout=${PY_KEY_VALUE:-$cache/$commit} packages=$cache/packages
	mkdir -p "$cache"
	if [ -n "${PY_KEY_VALUE:-}" ] && [ ! -f "$checkout/$suite" ]; then
		echo "error: PY_KEY_VALUE is $checkout, which has no $suite" >&2
		exit 1
	fi
	[ -f "$checkout/$suite" ] || fetch_tests "$checkout"
	[ -d "$packages" ] || install_packages "$packages"
	# Not importlib, the mode of our own tests, which would take the name `tests` for them.
	PYTHONPATH="$checkout:$packages" exec .venv/bin/python -m pytest --import-mode prepend --override-ini filterwarnings= \
		tests/upstream/store_suite.py "$@"
}

main "$@"
