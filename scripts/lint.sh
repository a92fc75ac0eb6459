#!/usr/bin/env bash
# make lint: everything that is checked without running the product.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 # as the Pulumi program is built: what it imports is compiled once
failed=0
step() {
    local name=$1
    shift
    echo "== $name"
    "$@" || { echo "FAILED: $name" >&2; failed=1; }
}

unformatted() {
    local files
    files=$(git ls-files -z -- '*.go' | xargs -0 gofmt -l)
    [ -z "$files" ] || { printf 'not formatted by gofmt:\n%s\n' "$files"; return 1; }
}

# lint_tool PACKAGE NAME builds a pinned linter once.
lint_tool() { (cd tools/lint && go build -o "../../bin/$2" "$1"); }

mkdir -p bin
step gofmt unformatted
step "go vet" go vet -tags e2e,mutation ./...
step "go vet, without the tags" go vet ./internal/need # the one package that has files for their absence
step "go vet, fault hooks" go vet -tags faults ./node/clock
step "go vet, tools" sh -c 'cd tools && go vet ./...'
lint_tool honnef.co/go/tools/cmd/staticcheck staticcheck
lint_tool github.com/kisielk/errcheck errcheck
step staticcheck bin/staticcheck -tags e2e,mutation ./...
step errcheck bin/errcheck -exclude tools/lint/errcheck-excludes.txt -ignoretests ./...
step "go mod verify" go mod verify
step "go mod tidy" go mod tidy -diff
step layout go test -count=1 ./internal/lint
if command -v shellcheck >/dev/null; then
    step shellcheck sh -c 'git ls-files -z -- "*.sh" .ci/run | xargs -0 shellcheck -x -S warning'
fi
if [ "${CI:-}" = true ]; then
    step "clean tree" sh -c 'test -z "$(git status --porcelain)" || { git status --short; exit 1; }'
fi
exit "$failed"
