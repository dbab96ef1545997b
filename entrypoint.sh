#!/bin/sh
# Starts what the container was asked to run. The settings are checked by the server itself (mcp_holdfast.serve),
# so that every problem is in one message and nothing is loaded twice.
#
#   docker run IMAGE                        the server
#   docker run IMAGE --workers 2            the server, with gunicorn's flags
#   docker run IMAGE holdfast check         the command line
#   docker run IMAGE python -V              any other program, as given
set -eu

# usage: restrict_process
# Keys and tokens are for this user alone, on the volume and after a crash.
restrict_process() {
	umask 0077
	# shellcheck disable=SC3045 # POSIX has no -c, but every shell that this runs in does
	ulimit -c 0
}

# usage: give_memory_back
# Once glibc has freed a large block, it keeps the next ones of that size: 38 MB of a worker, of the hashes of PINs.
give_memory_back() {
	export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-131072}"
}

# usage: asks_for_server [ARGUMENT...]
asks_for_server() {
	case ${1-} in
	'' | -*) return 0 ;;
	*) return 1 ;;
	esac
}

_main() {
	restrict_process
	if asks_for_server "$@"; then
		give_memory_back
		set -- python -m mcp_holdfast.serve "$@"
	fi
	exec "$@"
}

# Sourcing this file defines the functions and starts nothing, so that tests can call them.
case ${0##*/} in
entrypoint.sh) _main "$@" ;;
esac
