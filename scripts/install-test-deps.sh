#!/usr/bin/env bash
# Installs what `make e2e` and `make lint` use beyond Go, where it is missing, by apt-get: redis-cli and redis-server, the
# stock serf program, curl, and shellcheck.
set -euo pipefail

declare -A package=([redis-cli]=redis-tools [redis-server]=redis-server [serf]=serf [curl]=curl [shellcheck]=shellcheck)
missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
command -v apt-get >/dev/null || { echo "please install: ${missing[*]}" >&2; exit 1; }
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Installing redis-server must not start one: it would take a port and memory that tests use.
RUNLEVEL=1 $sudo apt-get update -qq
RUNLEVEL=1 $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
