#!/usr/bin/env bash
# Runs FastMCP's own auth tests, of the version in constraints.txt, against the packages of the image with our patches.
# Fails if the tests that fail are others than those in tests/upstream/known-differences.txt.
# usage: upstream-auth-suite.sh [PYTEST_OPTION...]
#   FASTMCP_TESTS=DIRECTORY  take the tests from a checkout of FastMCP instead of its source distribution
#   UNPATCHED=1              run them against the packages as they are published
set -euo pipefail
cd "$(dirname "$0")/.."

readonly suite=tests/upstream
readonly cache=.cache/upstream-suite

# The line of constraints.txt with its hashes, one of which is that of the source distribution.
requirement() {
	sed -n '/^fastmcp==/,/[^\\]$/p' constraints.txt
}

version() {
	requirement | sed -n 's/^fastmcp==\([^ ]*\).*/\1/p'
}

fingerprint() {
	.venv/bin/python --version
	sha256sum constraints.txt "$suite/constraints.txt" scripts/apply-patches.sh scripts/install-locked.sh \
		scripts/upstream-auth-suite.sh
	if [ "$1" = patched ]; then
		sha256sum patches/series patches/*.patch
	fi
}

# usage: make_venv KIND
make_venv() {
	local venv=$cache/$1
	.venv/bin/python -m venv --clear "$venv"
	scripts/install-locked.sh "$venv" constraints.txt "$suite/constraints.txt"
	if [ "$1" = patched ]; then
		scripts/apply-patches.sh "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	fi
}

# usage: update_venv KIND
update_venv() {
	local venv=$cache/$1
	if ! fingerprint "$1" | cmp --silent - "$venv/fingerprint"; then
		make_venv "$1"
		fingerprint "$1" >"$venv/fingerprint"
	fi
}

# usage: fetch_tests KIND DIRECTORY
fetch_tests() {
	local name scratch=$2.new
	name=fastmcp-$(version)
	rm -rf "$2" "$scratch"
	mkdir -p "$scratch"
	requirement >"$scratch/requirement.txt"
	echo "Fetching the source distribution of $name" >&2
	"$cache/$1/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes --no-binary :all: \
		--no-build-isolation --dest "$scratch" --requirement "$scratch/requirement.txt"
	# Not its packages: the tests are for the installed ones.
	tar --extract --file "$scratch/$name.tar.gz" --directory "$scratch" --strip-components 1 \
		"$name/tests" "$name/pyproject.toml"
	mv "$scratch" "$2"
}

main() {
	local directory python kind=patched root=$PWD
	[ -z "${UNPATCHED:-}" ] || kind=unpatched
	update_venv "$kind"
	directory=${FASTMCP_TESTS:-$cache/tests-$(version)}
	if [ -n "${FASTMCP_TESTS:-}" ] && [ ! -d "$directory/tests/server/auth" ]; then
		echo "error: FASTMCP_TESTS is $directory, which has no tests/server/auth" >&2
		exit 1
	fi
	[ -d "$directory" ] || fetch_tests "$kind" "$directory"
	python=$root/$cache/$kind/bin/python
	cd "$directory"
	# An empty pythonpath, because FastMCP's own settings put the packages of its checkout before the installed ones.
	PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$root/$suite" exec "$python" -m pytest tests/server/auth -p known_differences \
		-p no:cacheprovider --override-ini pythonpath= --timeout 60 --quiet -rfEx --tb short "$@"
}

main "$@"
