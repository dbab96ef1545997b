#!/bin/sh
# usage: apply-patches.sh SITE_PACKAGES
# Applies patches/series, or patches/series-fastmcp4 where FastMCP 4 is installed, to the packages in SITE_PACKAGES: the
# whole series or nothing. Left out are patches of packages that are not installed at all: holdfast:base has no exasol.
# Every hunk must fit at its very line, so that a changed upstream file stops the build instead of being guessed at.
set -eu

fail() {
	echo "apply-patches: $*" >&2
	exit 1
}

series_file() {
	if [ -n "$(find "$site_packages" -maxdepth 1 -name 'fastmcp_slim-4.*.dist-info')" ]; then
		echo series-fastmcp4
	else
		echo series
	fi
}

listed() {
	sed -e 's/[[:space:]]*#.*//' -e '/^$/d' "$patches/$(series_file)"
}

# usage: targets PATCH
targets() {
	sed -n 's,^+++ b/\([^[:space:]]*\).*,\1,p' "$patches/$1"
}

series() {
	for patch in $(listed); do
		file=$(targets "$patch" | head -n 1)
		[ ! -e "$site_packages/${file%%/*}" ] || echo "$patch"
	done
}

# Fills the scratch copy with the installed files that the patches change.
copy_targets() {
	rm -rf "$scratch/tree"
	while read -r file; do
		[ -f "$site_packages/$file" ] || fail "$site_packages/$file, which a patch changes, does not exist"
		mkdir -p "$scratch/tree/$(dirname "$file")"
		cp -p "$site_packages/$file" "$scratch/tree/$file"
	done <"$scratch/targets"
}

# Runs patch(1) on the scratch copy.
fits() {
	LC_ALL=C patch --directory="$scratch/tree" --strip=1 --fuzz=0 --force --no-backup-if-mismatch --reject-file=- \
		"$@" >"$scratch/output" 2>&1 || return 1
	! grep -Eq '^Hunk .*(offset|fuzz)' "$scratch/output"
}

already_applied() {
	for patch in $(series | tac); do
		fits --reverse --input="$patches/$patch" || return 1
	done
}

# Prints the patches that could be taken back from the packages as they are.
applied_in_part() {
	for patch in $(series); do
		if fits --dry-run --reverse --input="$patches/$patch"; then
			echo "$patch"
		fi
	done
}

apply_to_copy() {
	for patch in $(series); do
		fits --input="$patches/$patch" && continue
		output=$(cat "$scratch/output")
		copy_targets
		applied=$(applied_in_part)
		[ -z "$applied" ] || fail "$patch does not fit $site_packages, which is patched in part: install its packages" \
			"afresh. Already there:" "$applied"
		fail "$patch does not fit $site_packages, so nothing was changed. patch(1) says:" "$output"
	done
}

# Replaces the files by renaming, because they may be hard links into a package cache, and drops their bytecode.
install_targets() {
	while read -r file; do
		cp -p "$site_packages/$file" "$site_packages/$file.patched"
		cat "$scratch/tree/$file" >"$site_packages/$file.patched"
	done <"$scratch/targets"
	while read -r file; do
		mv "$site_packages/$file.patched" "$site_packages/$file"
		rm -f "$site_packages/$(dirname "$file")/__pycache__/$(basename "$file" .py)".*.pyc
	done <"$scratch/targets"
}

[ $# -eq 1 ] || fail "usage: apply-patches.sh SITE_PACKAGES"
[ -d "$1" ] || fail "$1 is not a directory"
command -v patch >/dev/null || fail "patch(1) is not installed; on Debian: apt-get install patch"
site_packages=$(cd "$1" && pwd)
patches=$(cd "$(dirname "$0")/../patches" && pwd)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for patch in $(listed); do
	[ -f "$patches/$patch" ] || fail "patches/$(series_file) names $patch, which does not exist"
done
[ -n "$(series)" ] || fail "$site_packages has none of the packages that the patches change"
for patch in $(series); do
	targets "$patch"
done >"$scratch/changed"
sort -u "$scratch/changed" >"$scratch/targets"

copy_targets
if already_applied; then
	echo "apply-patches: already applied to $site_packages"
	exit 0
fi
copy_targets
apply_to_copy
install_targets
echo "apply-patches: applied to $site_packages"
series | sed 's/^/  /'
