#!/usr/bin/env bash
# Tells of each node whether it is alive, serves, and answers Redis commands: one line a node.
#
#   scripts/health-check.sh                      the nodes of the stack (its output `nodes`)
#   scripts/health-check.sh --private            the same, by their private addresses, from inside the network
#   scripts/health-check.sh HOST…                hosts, with RESP on 8080 and HTTP on 9080
#   scripts/health-check.sh HOST:HTTP…           another HTTP port
#   scripts/health-check.sh HOST:RESP:HTTP…      other ports
#
# Exits 0 when all are well, 1 when nodes are sick, naming them, and 2 when it could not find out. The stack is the one of
# PULUMI_STACK, or local. Needs curl, and redis-cli or else bash's own /dev/tcp. The password of the user default comes from
# REDISCLI_AUTH; without one, and without hosts, it is the stack's own (its output `password`).
set -u
readonly limit=3 # seconds for each question

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }

# nodes_of_stack prints "name host resp http" for each node of the stack's output, without needing jq.
nodes_of_stack() {
    local json record name host resp http
    # shellcheck source=scripts/pulumi-env.sh
    source "$(dirname "${BASH_SOURCE[0]}")/pulumi-env.sh"
    cd "$HC_ROOT" || return 2
    json=$(pulumi stack output nodes --json -s "${PULUMI_STACK:-local}") || return 2
    while IFS= read -r record; do
        name=$(field name "$record")
        [ -n "$name" ] || continue
        host=$(field publicIp "$record")
        if [ -z "$host" ] || [ "$1" = private ]; then host=$(field privateIp "$record"); fi
        resp=$(field respPort "$record")
        http=$(field httpPort "$record")
        echo "$name $host $resp $http"
    done < <(printf '%s' "$json" | tr -d '\n' | sed 's/}/}\n/g'; echo)
}

# password_of_stack prints the stack's password, nothing where it has none or nobody here may know it.
password_of_stack() {
    # shellcheck source=scripts/pulumi-env.sh
    source "$(dirname "${BASH_SOURCE[0]}")/pulumi-env.sh"
    cd "$HC_ROOT" && pulumi stack output password --show-secrets -s "${PULUMI_STACK:-local}" 2>/dev/null
}

# field NAME RECORD prints one value of a flat JSON object.
field() { printf '%s' "$2" | sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p"; }

# node_of_argument prints the same line for a host given by hand.
node_of_argument() {
    local host=$1 resp=8080 http=9080
    case $1 in
    *:*:*) host=${1%%:*} resp=${1#*:} http=${1##*:} resp=${resp%:*} ;;
    *:*) host=${1%%:*} http=${1#*:} ;;
    esac
    case "$host,$resp,$http" in
    ,* | *,*[!0-9]*,* | *,,* | *,*[!0-9] | *,) echo "health-check: '$1' is not HOST, HOST:HTTP or HOST:RESP:HTTP" >&2; return 2 ;;
    esac
    echo "$1 $host $resp $http"
}

# ping HOST PORT succeeds if a Redis PING is answered. It fails with 2 if the node wants a password, or another one.
ping() {
    local answer as=()
    if command -v redis-cli >/dev/null; then
        # A node that needs no password takes any from default, and none without a name; an empty one is one to redis-cli.
        if [ -n "${REDISCLI_AUTH:-}" ]; then as=(--user default); else unset REDISCLI_AUTH; fi
        answer=$(timeout "$limit" redis-cli ${as[@]+"${as[@]}"} -h "$1" -p "$2" PING 2>/dev/null)
    else
        # Address and password go in as arguments and environment: nothing of them is ever run.
        # shellcheck disable=SC2016
        answer=$(timeout "$limit" bash -c 'LC_ALL=C; exec 3<>"/dev/tcp/$0/$1" || exit
            if [ -n "${REDISCLI_AUTH:-}" ]; then
                printf "*3\r\n\$4\r\nAUTH\r\n\$7\r\ndefault\r\n\$%d\r\n%s\r\n" "${#REDISCLI_AUTH}" "$REDISCLI_AUTH" >&3 && read -r _ <&3
            fi
            printf "PING\r\n" >&3 && IFS= read -r line <&3 && printf %s "$line"' \
            "$1" "$2" 2>/dev/null)
        answer=${answer%$'\r'}
        answer=${answer#+}
    fi
    case $answer in
    PONG) return 0 ;;
    *NOAUTH*) return 2 ;;
    *) return 1 ;;
    esac
}

# probe NAME HOST RESP HTTP prints the node's line and fails if something is wrong with it.
probe() {
    local problems=() body
    if ! curl -fsS -o /dev/null -m "$limit" "http://$2:$4/health" 2>/dev/null; then
        problems+=("HTTP on $4 does not answer")
    elif ! body=$(curl -sS -m "$limit" -w '\n%{http_code}' "http://$2:$4/ready" 2>/dev/null) || [ "${body##*$'\n'}" != 200 ]; then
        body=$(printf '%s' "${body%$'\n'*}" | tr -s '[:space:]' ' ' | cut -c 1-120)
        problems+=("not ready${body:+: $body}")
    fi
    ping "$2" "$3"
    case $? in
    0) ;;
    2) problems+=("RESP on $3 wants a password: give the right one in REDISCLI_AUTH") ;;
    *) problems+=("RESP on $3 does not answer") ;;
    esac
    if [ ${#problems[@]} -eq 0 ]; then
        printf '%-22s %-15s resp %-5s http %-5s ok\n' "$1" "$2" "$3" "$4"
        return 0
    fi
    local text
    text=$(printf '; %s' "${problems[@]}")
    printf '%-22s %-15s resp %-5s http %-5s SICK: %s\n' "$1" "$2" "$3" "$4" "${text#; }"
    return 1
}

main() {
    local list='' line argument which=public sick=() total=0
    case ${1:-} in
    -h | --help) usage; exit 0 ;;
    --private) which=private; shift ;;
    -*) usage >&2; exit 2 ;;
    esac
    command -v curl >/dev/null || { echo "health-check: curl is needed" >&2; exit 2; }
    if [ $# -eq 0 ]; then
        list=$(nodes_of_stack "$which") || { echo "health-check: cannot read the stack's nodes; hosts can be given as arguments" >&2; exit 2; }
        : "${REDISCLI_AUTH:=$(password_of_stack)}"
        export REDISCLI_AUTH
    else
        for argument in "$@"; do
            line=$(node_of_argument "$argument") || exit 2
            list+="$line"$'\n'
        done
    fi
    while read -r name host resp http; do
        [ -n "$name" ] || continue
        total=$((total + 1))
        probe "$name" "$host" "$resp" "$http" || sick+=("$name")
    done <<<"$list"
    if [ "$total" -eq 0 ]; then
        echo "health-check: the stack has no nodes" >&2
        exit 2
    fi
    if [ ${#sick[@]} -gt 0 ]; then
        echo "${#sick[@]} of $total nodes are sick: ${sick[*]}"
        exit 1
    fi
    echo "all $total nodes are well"
}

main "$@"
