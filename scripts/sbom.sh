#!/usr/bin/env bash
# Lists what is in an image, as DIRECTORY/sbom.cdx.json (CycloneDX) and DIRECTORY/sbom.spdx.json (SPDX), with the hash of
# the wheel that each Python package was installed from.
# Usage: sbom.sh IMAGE DIRECTORY, where IMAGE is a name that the engine knows, or any other source that Syft can read,
# such as registry:NAME@DIGEST. SYFT names the program, by default the one in PATH or in .venv.
set -euo pipefail

main() {
	local image=$1 directory=$2
	mkdir -p "$directory"
	found=$(mktemp)
	trap 'rm -f "$found"' EXIT
	PATH=$PATH:$(dirname "$0")/../.venv/bin
	# The hash of each file, so that an image can be compared with its list; SPDX 2.3 wants SHA-1 beside it.
	export SYFT_CHECK_FOR_APP_UPDATE=false SYFT_FILE_METADATA_SELECTION=all SYFT_FILE_METADATA_DIGESTS=sha1,sha256
	export SYFT_FILE_CONTENT_GLOBS='/opt/holdfast/wheels.sha256'
	"${SYFT:-syft}" scan "$image" --quiet --source-name holdfast \
		--output "cyclonedx-json=$directory/sbom.cdx.json" \
		--output "spdx-json=$directory/sbom.spdx.json" \
		--output "syft-json=$found"
	python3 "$(dirname "$0")/add_wheel_hashes.py" "$found" "$directory/sbom.cdx.json" "$directory/sbom.spdx.json"
}

main "$@"
