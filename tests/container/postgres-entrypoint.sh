#!/usr/bin/env bash
# Starts PostgreSQL as its official image does, as far as compose/postgres.yaml makes use of that.
set -euo pipefail

# It can be reached by the network only when it has everything.
make_database() {
	local file
	local -a options
	read -ra options <<<"${POSTGRES_INITDB_ARGS:-}"
	initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" "${options[@]}"
	echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
	pg_ctl start --wait --options="-c listen_addresses=''"
	for file in /docker-entrypoint-initdb.d/*.sql; do
		psql --username=postgres --no-psqlrc --set=ON_ERROR_STOP=1 --file="$file"
	done
	pg_ctl stop --wait --mode=fast
}

chmod 700 "$PGDATA"
[ -s "$PGDATA/PG_VERSION" ] || make_database
exec "$@"
