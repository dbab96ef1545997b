#!/usr/bin/env bash
# Prints a Compose file that hands every setting of this shell's environment on to the container, by name only, and
# mounts the files that they name: secrets (NAME_FILE) where they are, a server of one's own (HOLDFAST_SERVER) in /srv.
set -euo pipefail

readonly settings='^(HOLDFAST|EXA|EXASOL|FASTMCP|OAUTH|MCP_OAUTH)_|^(WEB_CONCURRENCY|FORWARDED_ALLOW_IPS|GUNICORN_CMD_ARGS|LOG_LEVEL|LOG_FORMAT)(_FILE)?$'
# The image's own affair: where its volume is.
readonly fixed='^FASTMCP_HOME$'

# usage: quote TEXT
# Compose would take a dollar sign for the start of a variable.
quote() {
	local text=${1//\\/\\\\}
	text=${text//\"/\\\"}
	printf '"%s"' "${text//\$/\$\$}"
}

# usage: server_file
# The file in HOLDFAST_SERVER=FILE or FILE:name, where this machine has it.
server_file() {
	local file=${HOLDFAST_SERVER:-}
	[ -f "$file" ] || file=${file%:*}
	[ ! -f "$file" ] || realpath "$file"
}

environment() {
	local name server
	server=$(server_file)
	while read -r name; do
		case $name in
		HOLDFAST_SERVER) ;;
		*_FILE)
			if [ -f "${!name}" ]; then
				echo "      $name: $(quote "$(realpath "${!name}")")"
			else
				echo "      $name:"
			fi
			;;
		*) echo "      $name:" ;;
		esac
	done < <(compgen -e | grep -E "$settings" | grep -vE "$fixed")
	if [ -n "$server" ]; then
		echo "      HOLDFAST_SERVER: $(quote "/srv/$(basename "$server")${HOLDFAST_SERVER#"${HOLDFAST_SERVER%:*}"}")"
	elif [ -n "${HOLDFAST_SERVER:-}" ]; then
		echo "      HOLDFAST_SERVER:"
	fi
}

mounts() {
	local name server
	server=$(server_file)
	while read -r name; do
		[ ! -f "${!name}" ] || mount "$(realpath "${!name}")" "$(realpath "${!name}")"
	done < <(compgen -e | grep -E "$settings" | grep '_FILE$')
	[ -z "$server" ] || mount "$(dirname "$server")" /srv
}

# usage: mount SOURCE TARGET
mount() {
	echo "      - {type: bind, source: $(quote "$1"), target: $(quote "$2"), read_only: true}"
}

cat <<EOT
services:
  holdfast:
    working_dir: /srv
    environment:
      PORT: \${PORT:-8000}
$(environment)
    volumes:
      - holdfast:/data
$(mounts)
EOT
