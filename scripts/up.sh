#!/usr/bin/env bash
# Builds and starts Holdfast on this machine, waits until it is ready, and says how to sign in.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly url="http://localhost:${PORT:-8000}/mcp"
readonly deadline=120

compose() {
	scripts/compose.sh --file compose/local.yaml "$@"
}

# usage: inspect CONTAINER FORMAT
inspect() {
	"$docker" inspect --format "$2" "$1"
}

wait_until_healthy() {
	local container=$1
	echo "Waiting until the server is ready"
	SECONDS=0
	until [ "$(inspect "$container" '{{.State.Health.Status}}')" = healthy ]; do
		if [ "$(inspect "$container" '{{.RestartCount}}')" -gt 0 ]; then
			give_up "the server stopped right after its start"
		elif [ "$SECONDS" -ge "$deadline" ]; then
			give_up "the server was not ready within $deadline seconds"
		fi
		sleep 1
	done
}

# usage: give_up REASON
give_up() {
	compose logs --no-log-prefix --tail 30 >&2
	compose stop >/dev/null 2>&1
	echo "error: $1; its last words are above" >&2
	exit 1
}

# The PIN that was generated is shown once, in the log of the first start.
pin() {
	local shown
	if [ -n "${HOLDFAST_PIN:-}" ]; then
		echo "the one in HOLDFAST_PIN"
		return
	fi
	shown=$(compose logs --no-log-prefix 2>&1 | sed -n 's/.*Sign-in PIN: \([^ "]*\).*/\1/p' | tail -n 1)
	echo "${shown:-as shown at the first start. To choose another: HOLDFAST_PIN=... make up}"
}

main() {
	docker=$(scripts/find-or-install-engine.sh)
	scripts/build-image.sh
	compose up --detach
	wait_until_healthy "$(compose ps --quiet holdfast)"
	cat <<-EOT

		Holdfast is ready.

		  URL  $url
		  PIN  $(pin)

		Connect a client:

		  Claude Code    claude mcp add --transport http holdfast $url
		  MCP Inspector  npx @modelcontextprotocol/inspector --transport http --server-url $url
		  mcp-remote     npx mcp-remote $url

		make logs shows what it does, make down stops it; sign-ins stay on the volume "${VOLUME:-holdfast}".
	EOT
}

main "$@"
