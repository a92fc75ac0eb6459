# Sourced, not run: the environment in which this project's own Pulumi works, with its state under .hypercache/ and no
# account anywhere. `eval "$(make -s env)"` gives it to an interactive shell, for `pulumi up -s local` typed by hand.
# shellcheck shell=bash

HC_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
HC_PULUMI_MIN=3.238.0 # as requiredPulumiVersion in Pulumi.yaml

# The stock pulumi is preferred when it is new enough and can run Go programs; else the one of tools/ in bin/.
hc_pulumi_is_usable() {
    local version
    command -v pulumi >/dev/null && command -v pulumi-language-go >/dev/null || return 1
    version=$(PULUMI_SKIP_UPDATE_CHECK=true pulumi version 2>/dev/null) || return 1
    version=${version#v}
    [ "$(printf '%s\n%s\n' "$HC_PULUMI_MIN" "${version%%-*}" | sort -V | head -n 1)" = "$HC_PULUMI_MIN" ]
}

if ! hc_pulumi_is_usable; then
    export PATH="$HC_ROOT/bin:$PATH"
fi
export PULUMI_HOME=${HC_PULUMI_HOME:-$HC_ROOT/.hypercache/pulumi}
export PULUMI_BACKEND_URL=${HC_BACKEND_URL:-file://$HC_ROOT/.hypercache/state}
# Secrets of the local stack are as safe as the files next to the state, mode 0600; a passphrase would add nothing.
export PULUMI_CONFIG_PASSPHRASE=${PULUMI_CONFIG_PASSPHRASE-}
export PULUMI_SKIP_UPDATE_CHECK=true
export PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true
# The local stack needs no cloud SDK, and compiling one takes minutes. No cgo: the same objects serve every program built.
export GOFLAGS="-tags=localonly${GOFLAGS:+ $GOFLAGS}"
export CGO_ENABLED=0
