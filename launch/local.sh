#!/usr/bin/env bash
# Several processes of one run on this host, as hosts of a cluster would be.
# usage: launch/local.sh [--dry-run] N -- FLAG …
#   FLAG …: of python -m ptjax.main.
#   PYTHON, and what jax reads, such as JAX_NUM_CPU_DEVICES (virtual devices a
#   process; default 1), from the environment. JAX_PLATFORMS is cpu unless said.
# The code is that of the first process that failed. SIGTERM or Ctrl-C goes to
# all: the run saves, and ends. What then still lives after PATIENCE seconds
# (default 120) is killed.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/steps.sh
. launch/steps.sh
if [[ ${1:-} == --dry-run ]]; then dry=1 && shift; fi
count=${1:-}
[[ $count =~ ^[1-9][0-9]*$ && ${2:-} == -- ]] ||
  refuse "say how many processes and what they run: $0 2 -- --config=… …"
shift 2
# Of few cores, jax's CPU devices can wait for one another for ever.
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu} NPROC=${NPROC:-32}
: "${PATIENCE:=120}" "${PYTHON:=python}"

free_port() {
  "$PYTHON" -c 'import socket
with socket.socket() as s:
  s.bind(("127.0.0.1", 0))
  print(s.getsockname()[1])'
}
port=${PORT:-}
[[ -n $port || -n $dry ]] || port=$(free_port)

pids=()
# SIGNAL: to those that live.
# shellcheck disable=SC2329 # called by the traps
end() {
  for pid in "${pids[@]}"; do kill "-$1" "$pid" 2> /dev/null || true; done
}
asked=
deadline=
trap 'asked=1; end TERM' TERM INT
trap 'end KILL' EXIT # jax swallows SIGTERM

for ((i = 0; i < count; i++)); do
  command=(env "JAX_COORDINATOR_ADDRESS=127.0.0.1:${port:-PORT}"
    "JAX_NUM_PROCESSES=$count" "JAX_PROCESS_ID=$i"
    "$PYTHON" -m ptjax.main "$@")
  if [[ -n $dry ]]; then
    say "${command[@]}"
  else
    "${command[@]}" &
    pids+=($!)
  fi
done

code=0
while ((${#pids[@]})); do
  left=()
  for pid in "${pids[@]}"; do
    if kill -0 "$pid" 2> /dev/null; then
      left+=("$pid")
    else
      ended=0
      wait "$pid" || ended=$?
      code=$((code ? code : ended))
    fi
  done
  pids=("${left[@]}")
  if [[ -z $deadline && (-n $asked || $code != 0) ]]; then
    deadline=$((SECONDS + PATIENCE))
  fi
  if [[ -n $deadline ]] && ((SECONDS >= deadline)); then
    echo "launch/local.sh: ${#pids[@]} did not end in $PATIENCE s: killed" >&2
    exit $((code ? code : 1))
  fi
  ((!${#pids[@]})) || sleep 0.1 || true
done
exit "$code"
