#!/usr/bin/env bash
# Builds and starts Holdfast on this machine, waits until it is ready, and says how to sign in.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly deadline=120
readonly settings=.cache/local-settings.yaml

compose() {
	scripts/compose.sh --ansi never --file compose/local.yaml --file "$settings" "$@"
}

# A server that runs already is left alone where the settings would not let it start again.
check_settings() {
	if ! compose run --rm --no-deps holdfast holdfast check >/dev/null; then
		echo "error: nothing was started or stopped; see above for what to correct" >&2
		exit 1
	fi
}

# usage: wait_until_ready CONTAINER
wait_until_ready() {
	echo "Waiting until the server is ready"
	SECONDS=0
	until "$docker" exec "$1" python -m mcp_holdfast.healthcheck >/dev/null 2>&1; do
		if [ "$("$docker" inspect "$1" --format '{{.RestartCount}}')" -gt 0 ]; then
			give_up "the server stopped right after its start"
		elif [ "$SECONDS" -ge "$deadline" ]; then
			give_up "the server was not ready within $deadline seconds"
		fi
		sleep 0.2
	done
}

# usage: give_up REASON
give_up() {
	compose logs --no-log-prefix --tail 30 >&2
	compose stop >/dev/null 2>&1
	echo "error: $1; its last words are above" >&2
	exit 1
}

log() {
	compose logs --no-log-prefix 2>&1
}

# The address as the server itself announces it, whatever it was told.
url() {
	log | sed -n 's/.*url"\{0,1\}[=:] \{0,1\}"\{0,1\}\(http[^ ",]*\).*/\1/p' | tail -n 1
}

# usage: pin CONTAINER
# One that was made up is shown once, in the log of the first start.
pin() {
	local shown
	if "$docker" inspect "$1" --format '{{range .Config.Env}}{{println .}}{{end}}' |
		grep --quiet -E '^(HOLDFAST|OAUTH)_PIN(_FILE)?=.'; then
		echo "the one that you set"
		return
	fi
	shown=$(log | sed -n 's/.*Sign-in PIN: \([^ "]*\).*/\1/p' | tail -n 1)
	echo "${shown:-as shown at the first start. To choose another: HOLDFAST_PIN=... make up}"
}

main() {
	local container url
	docker=$(scripts/find-or-install-engine.sh)
	scripts/build-image.sh
	mkdir -p "$(dirname "$settings")"
	scripts/local-settings.sh >"$settings"
	check_settings
	compose up --detach
	container=$(compose ps --quiet holdfast)
	wait_until_ready "$container"
	url=$(url)
	cat <<-EOT

		Holdfast is ready.

		  URL  $url
		  PIN  $(pin "$container")

		Connect a client:

		  Claude Code    claude mcp add --transport http holdfast $url
		  MCP Inspector  npx @modelcontextprotocol/inspector@latest --transport http --server-url $url
		                 (Node 22.19 or newer)
		  mcp-remote     npx mcp-remote $url

		make logs shows what it does, make down stops it; sign-ins stay on the volume.
	EOT
}

main "$@"
