#!/usr/bin/env bash
# Prints the path of a Docker client that can build this image and whose engine answers. Installs Debian's engine where
# there is none, and starts it where nothing else would. Progress goes to standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

# A client without BuildKit's build command (Docker 23 and newer without the buildx plugin) cannot mount a build secret.
can_build() {
	DOCKER_BUILDKIT=1 "$1" build --help 2>/dev/null | grep --quiet -- --secret
}

find_client() {
	local client
	while read -r client; do
		if can_build "$client"; then
			echo "$client"
			return 0
		fi
	done < <(type -aP docker)
	return 1
}

install_engine() {
	local package
	echo "There is no Docker here that can build images" >&2
	scripts/install-packages.sh docker.io
	# Newer releases have split these off docker.io.
	for package in docker-cli docker-buildx; do
		if apt-cache show "$package" >/dev/null 2>&1; then
			scripts/install-packages.sh "$package"
		fi
	done
}

answers() {
	"$1" version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# Where one is running but does not answer yet, dockerd sees that by itself and ends: there is never a second.
start_engine() {
	local client=$1 log=/var/log/dockerd.log
	if [ "$(id -u)" -ne 0 ]; then
		echo "error: no Docker engine answers: $("$client" version 2>&1 >/dev/null | tail -n 1)" >&2
		echo "Start it (sudo systemctl start docker), or let this user use it (sudo usermod -aG docker $USER)." >&2
		exit 1
	fi
	if [ -d /run/systemd/system ]; then
		systemctl start docker >&2
	else
		echo "Starting the Docker engine (log: $log)" >&2
		setsid --fork dockerd >>"$log" 2>&1 </dev/null
	fi
	for _ in $(seq 60); do
		answers "$client" && return 0
		sleep 1
	done
	echo "error: the Docker engine did not start within a minute; the reason may be in $log" >&2
	exit 1
}

main() {
	local client
	if ! client=$(find_client); then
		install_engine
		client=$(find_client)
	fi
	answers "$client" || start_engine "$client"
	echo "$client"
}

main "$@"
