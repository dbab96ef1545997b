#!/bin/sh
# usage: install-holdfast.sh TREE
# Patches the packages in /opt/holdfast, installs Holdfast and entrypoint.sh beside them, and moves all into TREE, which
# becomes a layer of the image.
set -eu
cd "$(dirname "$0")/.."

tree=$1
environment=/opt/holdfast
site_packages=$environment/lib/python3.13/site-packages

scripts/apply-patches.sh "$site_packages"
pip --python "$environment/bin/python" install --no-compile --no-deps --no-index wheel/*.whl
python3 scripts/prune_packages.py "$site_packages"
python3 scripts/compile_modules.py "$environment/lib"
install --mode=0755 entrypoint.sh "$environment/bin/"

mkdir -p "$tree/opt"
mv "$environment" "$tree/opt/"
# The same files make the same layer, whenever they were built.
find "$tree" -exec touch --no-dereference --date=@0 {} +
