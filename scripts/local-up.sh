#!/usr/bin/env bash
# make up: a cluster on this machine, from nothing to a health table. Safe to repeat: it brings back what has died and
# rolls out what has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/pulumi-env.sh
source scripts/pulumi-env.sh
began=$SECONDS

command -v go >/dev/null || { echo "go is not on PATH: HyperCache is built with it, see https://go.dev/doc/install" >&2; exit 1; }

echo "== Ports"
go run ./infra/provider/cmd/portcheck local
echo "all free, or held by nodes of this cluster"
echo "== Programs"
make --no-print-directory build
scripts/build-tools.sh
hash -r
echo "== pulumi up -s local"
mkdir -p .hypercache/state
if ! pulumi stack select local >/dev/null 2>&1; then
    pulumi stack init local
fi
pulumi up -s local --yes --skip-preview --refresh
echo "== Health"
scripts/health-check.sh
echo
echo "Try it ($((SECONDS - began)) s so far were ours):"
if [ -n "$(pulumi stack output password --show-secrets -s local)" ]; then
    # shellcheck disable=SC2016
    echo '  eval "$(make -s env)"; export REDISCLI_AUTH=$(pulumi stack output password --show-secrets -s local)'
fi
echo "  $(pulumi stack output connect -s local) SET greeting hello"
echo "  make down      takes it all away again"
