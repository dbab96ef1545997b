#!/usr/bin/env bash
# Pushes an image for each platform and one index over all, and signs every one of them. To each platform's image it attaches
# what is in it (CycloneDX and SPDX) and where it was built (SLSA provenance).
# Usage: publish-image.sh REPOSITORY VERSION DIRECTORY...
# Each DIRECTORY is called like its platform (amd64) and has image.tar.gz, sbom.cdx.json and sbom.spdx.json.
# COSIGN_KEY is a private key (COSIGN_PASSWORD opens it): nothing is told to a public log then. Without it the identity of
# the workflow that runs this signs.
# Prints the name of the index with its digest.
set -euo pipefail

scripts=$(dirname "$0")
readonly scripts

# usage: check DIRECTORY...
# Nothing is pushed before everything is there.
check() {
	local file directory
	for directory in "$@"; do
		for file in image.tar.gz sbom.cdx.json sbom.spdx.json; do
			if [ ! -s "$directory/$file" ]; then
				echo "error: $directory/$file is missing; docker save makes it, and scripts/sbom.sh the rest" >&2
				exit 1
			fi
		done
	done
}

signing_flags() {
	if [ -n "${COSIGN_KEY:-}" ]; then
		printf '%s\n' --key "$COSIGN_KEY" --tlog-upload=false
	fi
}

# usage: push ARCHIVE TAG
# Prints the digest that the registry gave it.
push() {
	local loaded
	loaded=$(docker load --input "$1" | sed -n 's/^Loaded image: //p')
	docker tag "$loaded" "$2"
	docker push "$2" | sed -n 's/^.* digest: \(sha256:[0-9a-f]*\) .*$/\1/p'
}

# usage: attest IMAGE TYPE FILE
attest() {
	cosign attest --yes "${flags[@]}" --new-bundle-format --type "$2" --predicate "$3" "$1" >&2
}

# usage: publish_platform REPOSITORY VERSION DIRECTORY
# Prints the name of its image with its digest.
publish_platform() {
	local image
	image=$1@$(push "$3/image.tar.gz" "$1:$2-$(basename "$3")")
	python3 "$scripts/provenance.py" >"$3/provenance.json"
	cosign sign --yes "${flags[@]}" "$image" >&2
	attest "$image" cyclonedx "$3/sbom.cdx.json"
	attest "$image" spdxjson "$3/sbom.spdx.json"
	attest "$image" slsaprovenance1 "$3/provenance.json"
	echo "$image"
}

# usage: publish_index REPOSITORY VERSION IMAGE...
# Prints the name of the index with its digest.
publish_index() {
	local digest
	local -a registry=()
	case $1 in localhost:* | 127.*) registry=(--insecure) ;; esac
	docker manifest create "${registry[@]}" "$1:$2" "${@:3}" >&2
	digest=$(docker manifest push --purge "${registry[@]}" "$1:$2" | tail -n 1)
	cosign sign --yes "${flags[@]}" "$1@$digest" >&2
	echo "$1@$digest"
}

main() {
	local directory image repository=$1 version=$2
	local -a flags images=()
	check "${@:3}"
	mapfile -t flags < <(signing_flags)
	for directory in "${@:3}"; do
		image=$(publish_platform "$repository" "$version" "$directory")
		images+=("$image")
	done
	publish_index "$repository" "$version" "${images[@]}"
}

main "$@"
