#!/usr/bin/env bash
# Makes the secrets that the files in compose/ need, each a file in compose/secrets, or in SECRETS. What is there stays.
# An identity provider's client secret is yours to write, into client_secret.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly secrets=${SECRETS:-compose/secrets}

# usage: make_once NAME COMMAND...
# The file is there as a whole or not at all.
make_once() {
	[ ! -e "$secrets/$1" ] || return 0
	"${@:2}" >"$secrets/$1.part"
	mv "$secrets/$1.part" "$secrets/$1"
}

# usage: secret NAME
secret() {
	cat "$secrets/$1"
}

# Redis is told the password's hash. Who knows no password may ask whether it answers, for the health check.
redis_users() {
	echo "user default on nopass -@all +ping"
	echo "user holdfast on #$(secret redis_password | tr -d '\n' | sha256sum | cut -d ' ' -f 1)" \
		"~* +@read +@write +@scripting -@dangerous +scan +ping +info +select"
}

# For a database of its own, and no superuser.
postgres_role() {
	echo "CREATE ROLE holdfast LOGIN PASSWORD '$(secret postgres_password)';"
	echo "CREATE DATABASE holdfast OWNER holdfast;"
}

main() {
	mkdir -p "$secrets"
	# The directory is for its owner alone; the users in the containers (10001 and the engines') read the files.
	chmod 700 "$secrets"
	umask 022
	make_once pin openssl rand -hex 6
	make_once signing_key openssl rand -base64 32
	make_once storage_key openssl rand -base64 32
	make_once redis_password openssl rand -hex 24
	make_once redis_users redis_users
	make_once redis_url echo "redis://holdfast:$(secret redis_password)@redis:6379/0"
	make_once postgres_password openssl rand -hex 24
	make_once postgres_superuser_password openssl rand -hex 24
	make_once postgres_role postgres_role
	make_once postgres_url echo "postgresql://holdfast:$(secret postgres_password)@postgres:5432/holdfast"
}

main "$@"
