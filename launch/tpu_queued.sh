#!/usr/bin/env bash
# A TPU slice from the queue of the Cloud TPU API: made, installed, run on all
# its hosts, followed, deleted; deleted after a failure, too.
# usage: NAME=a ZONE=us-west4-a TYPE=v5litepod-16 \
#          launch/tpu_queued.sh [--dry-run] run FLAG …
#        NAME=a ZONE=us-west4-a launch/tpu_queued.sh [--dry-run] logs | delete
#   FLAG …: of python -m ptjax.main; --workdir is a folder all hosts share, or
#   gs://….
# These may be set, too:
#   PROJECT, SPOT=1
#   VERSION   the hosts' software; by default the one for TYPE
#   SETUP     a line each host runs first, such as one that mounts the folder
#   KEEP=1    takes a slice that is there, and leaves it: it costs until deleted
#   POLL      seconds between two looks at what is waited for
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=launch/steps.sh
. "$here/launch/steps.sh"
if [[ ${1:-} == --dry-run ]]; then dry=1 && shift; fi
verb=${1:-}
if (($#)); then shift; fi
need NAME my-tpu
need ZONE us-west4-a
: "${POLL:=30}" "${SPOT:=}" "${PROJECT:=}" "${KEEP:=}" "${SETUP:=}"
# shellcheck disable=SC2153 # NAME is the user's
archive=${TMPDIR:-/tmp}/ptjax-$NAME.tar.gz
queue=(gcloud compute tpus queued-resources)
vm=(gcloud compute tpus tpu-vm)
place=("--zone=$ZONE")
[[ -z $PROJECT ]] || place+=("--project=$PROJECT")
made='' started=''

# The software that TYPE's hosts start with.
version() {
  case $TYPE in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v[234]-*) echo tpu-ubuntu2204-base ;;
    *) refuse "TYPE=$TYPE is not known here; it can be v6e-N, v5p-N," \
      'v5litepod-N or v4-N, or set VERSION (TPU7x: launch/compute_engine.md)' ;;
  esac
}

# WORKER COMMAND: on one host, or all.
on() {
  step "${vm[@]}" ssh "$NAME" "${place[@]}" "--worker=$1" "--command=$2"
}

delete() {
  remove 'costs money while it is there' \
    "${queue[@]}" delete "$NAME" "${place[@]}" --force --quiet
}

clean_up() {
  local code=$?
  begin_clean_up
  [[ -z $started ]] ||
    on all 'STOP_WITHIN=60 ptjax/launch/host.sh stop' || true
  [[ -n $dry ]] || rm -f "$archive"
  if [[ -n $KEEP ]]; then
    echo "launch/${0##*/}: $NAME is kept, and costs money until:" \
      "NAME=$NAME ZONE=$ZONE $0 delete" >&2
  elif [[ -n $made ]]; then
    delete || code=$((code ? code : 1))
  fi
  exit "$code"
}

there() {
  local names name
  names=$(ask '' "${queue[@]}" list "${place[@]}" '--format=value(name)') ||
    fail 'the queue cannot be read, so nothing was made'
  for name in $names; do
    if [[ ${name##*/} == "$NAME" ]]; then return 0; fi
  done
  return 1
}

wait_active() {
  local state='' missed=0
  while [[ $state != ACTIVE ]]; do
    [[ -z $state ]] || sleep "$POLL"
    state=$(ask ACTIVE "${queue[@]}" describe "$NAME" "${place[@]}" \
      '--format=value(state.state)') || state=unread
    case $state in
      FAILED | SUSPENDING | SUSPENDED) fail "the queue says $NAME is $state" ;;
      unread) ((++missed < 10)) || fail "the queue did not answer $missed times" ;;
      *) missed=0 ;;
    esac
  done
}

# Returns the run's own code.
follow() {
  local code missed=0
  while :; do
    on 0 'ptjax/launch/host.sh follow' || true
    code=$(ask 0 "${vm[@]}" ssh "$NAME" "${place[@]}" --worker=0 \
      '--command=ptjax/launch/host.sh code') || code=
    if [[ $code =~ ^[0-9]+$ ]]; then return "$code"; fi
    if [[ $code == running ]]; then missed=0; else missed=$((missed + 1)); fi
    if ((missed == 5)); then
      started='' # nobody there to be asked to stop
      fail 'host 0 does not answer; if the slice was taken back, the same' \
        'command goes on from the last checkpoint in --workdir'
    fi
    sleep "$POLL"
  done
}

run() {
  need TYPE v5litepod-16
  need_workdir "$@"
  [[ -n ${VERSION:-} ]] || VERSION=$(version)
  need_program gcloud
  if there; then
    [[ -n $KEEP ]] || refuse "$NAME is there already; delete it by" \
      "NAME=$NAME ZONE=$ZONE $0 delete, take it by KEEP=1, or choose another NAME"
  else
    made=1
  fi
  clean_up_at_end
  step tar -C "$here" --exclude=.git --exclude=.venv --exclude=./runs \
    --exclude=__pycache__ -czf "$archive" .
  if [[ -n $made ]]; then
    step "${queue[@]}" create "$NAME" "--node-id=$NAME" "${place[@]}" \
      "--accelerator-type=$TYPE" "--runtime-version=$VERSION" ${SPOT:+--spot}
  fi
  wait_active
  step "${vm[@]}" scp "$archive" "$NAME:ptjax.tar.gz" "${place[@]}" --worker=all
  [[ -z $SETUP ]] || on all "$SETUP"
  on all 'mkdir -p ptjax && tar -xzf ptjax.tar.gz -C ptjax'
  on all 'ptjax/launch/host.sh install'
  started=1
  on all "ptjax/launch/host.sh start $(quoted "$@")"
  local code=0
  follow || code=$?
  started=
  ((!code)) || on all 'tail -n 20 ptjax/run.log' || true
  exit "$code"
}

case $verb in
  run) run "$@" ;;
  logs) need_program gcloud && follow ;;
  delete) need_program gcloud && delete ;;
  *) refuse "${verb:-nothing} is no verb; it can be run, logs or delete" ;;
esac
