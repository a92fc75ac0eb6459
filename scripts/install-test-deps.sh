#!/usr/bin/env bash
# Installs what `make e2e` and `make lint` use beyond Go and Docker, where it is missing, by apt-get: redis-cli and
# redis-server, the stock serf program, curl, shellcheck, and what checks and boots VMs: cloud-init, systemd-analyze,
# debootstrap, ip and nft.
set -euo pipefail

declare -A package=([redis-cli]=redis-tools [redis-server]=redis-server [serf]=serf [curl]=curl [shellcheck]=shellcheck
    [cloud-init]=cloud-init [systemd-analyze]=systemd [debootstrap]=debootstrap [ip]=iproute2 [nft]=nftables
    [mkfs.ext4]=e2fsprogs)
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
