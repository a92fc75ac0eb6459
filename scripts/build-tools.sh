#!/usr/bin/env bash
# Builds what a machine without Pulumi needs to run the local stack: the Pulumi CLI and the Go language host, at the
# versions pinned in tools/go.mod, into bin/. Does nothing where a usable pulumi is on PATH or the build is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/pulumi-env.sh
source scripts/pulumi-env.sh

if [ -z "${HC_FORCE_TOOLS:-}" ] && hc_pulumi_is_usable && [ "$(command -v pulumi)" != "$HC_ROOT/bin/pulumi" ]; then
    echo "pulumi: $(command -v pulumi) $(pulumi version)"
    exit 0
fi

# slowly SECONDS TEXT COMMAND… runs a command and says every 20 seconds that it still does.
slowly() {
    local text=$1 began=$SECONDS pid watcher status=0
    shift
    "$@" &
    pid=$!
    (while sleep 20; do echo "   … $text, $((SECONDS - began)) s so far"; done) &
    watcher=$!
    wait "$pid" || status=$?
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    return "$status"
}

mkdir -p bin
version=$(cd tools && GOFLAGS='' go list -m -f '{{.Version}}' github.com/pulumi/pulumi/sdk/v3)
flags="-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$version"
stamp=$(cat tools/go.mod tools/go.sum | cksum)
if [ ! -x bin/pulumi ] || [ "$(cat bin/pulumi.stamp 2>/dev/null)" != "$stamp" ]; then
    echo "No pulumi >= $HC_PULUMI_MIN on PATH: building it from its sources, once. This takes 2 to 5 minutes of all cores."
    (cd tools && slowly "building the Pulumi CLI" \
        env GOFLAGS= go build -buildvcs=false -ldflags "$flags" -o ../bin/pulumi github.com/pulumi/pulumi/pkg/v3/cmd/pulumi)
    echo "$stamp" >bin/pulumi.stamp
fi
(cd tools && env GOFLAGS= go build -buildvcs=false -ldflags "$flags" -o ../bin/pulumi-language-go ./pulumi-language-go)
echo "pulumi: bin/pulumi $(bin/pulumi version)"
