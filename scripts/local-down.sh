#!/usr/bin/env bash
# make down: destroys the local stack and forgets it. Safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/pulumi-env.sh
source scripts/pulumi-env.sh

if [ ! -d .hypercache/state ] || ! command -v pulumi >/dev/null; then
    echo "No local stack: nothing to destroy."
    exit 0
fi
if ! pulumi stack select local >/dev/null 2>&1; then
    echo "No local stack: nothing to destroy."
    exit 0
fi
# All nodes go, so none has anybody to hand its data to, even if an earlier change was interrupted half-way.
rm -f .hypercache/local/local/roster.json
# The provider is what destroys; it may have been cleaned away since.
[ -x bin/pulumi-resource-hypercache ] || make --no-print-directory bin/pulumi-resource-hypercache
pulumi destroy -s local --yes --skip-preview
pulumi stack rm -s local --yes --preserve-config
