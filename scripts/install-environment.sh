#!/bin/sh
# usage: install-environment.sh CONSTRAINTS ENVIRONMENT
# Installs what a lock file names into a virtual environment, without what no server needs, and compiles it.
set -eu

constraints=$1
environment=$2

if [ -s /run/secrets/ca-bundle ]; then
	export PIP_CERT=/run/secrets/ca-bundle
fi
pip --python "$environment/bin/python" install --no-compile --no-deps --require-hashes --only-binary :all: \
	--requirement "$constraints"
# What debuggers alone read was most of some extensions.
find "$environment/lib" -name '*.so*' -type f -exec strip --strip-unneeded {} +
"$environment/bin/python" "$(dirname "$0")/prune_packages.py" "$environment/lib/python3.13/site-packages"
"$environment/bin/python" "$(dirname "$0")/compile_modules.py" "$environment/lib"
