#!/usr/bin/env bash
# make bench: HyperCache beside redis-server, in one run, as ratios. Arguments go to scripts/bench (-rounds, -each, -only).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-test-deps.sh
go run ./scripts/bench -node "$PWD/bin/hypercache" "$@"
