#!/bin/sh
# usage: install-environment.sh CONSTRAINTS ENVIRONMENT
# Installs what a lock file names into a virtual environment, without what no server needs, and compiles it. Which wheels
# these were is in ENVIRONMENT/wheels.sha256.
set -eu
cd "$(dirname "$0")"

constraints=$1
environment=$2
report=$(mktemp)

if [ -s /run/secrets/ca-bundle ]; then
	export PIP_CERT=/run/secrets/ca-bundle
fi
pip --python "$environment/bin/python" install --no-compile --no-deps --require-hashes --only-binary :all: \
	--report "$report" --requirement "$constraints"
./list_wheels.py "$report" >>"$environment/wheels.sha256"
LC_ALL=C sort --key=2 --output="$environment/wheels.sha256" "$environment/wheels.sha256"
# What debuggers alone read was most of some extensions.
find "$environment/lib" -name '*.so*' -type f -exec strip --strip-unneeded {} +
"$environment/bin/python" ./prune_packages.py "$environment/lib/python3.13/site-packages"
"$environment/bin/python" ./compile_modules.py "$environment/lib"
