#!/usr/bin/env bash
# A JobSet on GKE: applied, followed, deleted; deleted after a failure, too.
# usage: NAME=a IMAGE=…/ptjax:tpu CLAIM=shared \
#          ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=4x4 HOSTS=4 CHIPS=4 \
#          launch/gke.sh [--dry-run] run tpu FLAG …
#        NAME=a IMAGE=…/ptjax:gpu CLAIM=shared \
#          ACCELERATOR=nvidia-h100-80gb HOSTS=2 CHIPS=8 \
#          launch/gke.sh [--dry-run] run gpu FLAG …
#        NAME=a launch/gke.sh [--dry-run] logs | delete
#   FLAG …: of python -m ptjax.main; --workdir is under /shared, which is CLAIM,
#   a volume claim that all pods may write (ReadWriteMany), or it is gs://….
#   CLAIM: not needed then; /shared is an empty folder of each pod.
#   CHIPS: TPU chips or GPUs a host.
# These may be set, too:
#   NAMESPACE, RESTARTS (default 10)
#   KEEP=1    leaves the JobSet, whose pods keep their nodes while they run
#   POLL      seconds between two looks at what is waited for
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/steps.sh
. "$here/steps.sh"
if [[ ${1:-} == --dry-run ]]; then dry=1 && shift; fi
verb=${1:-}
if (($#)); then shift; fi
need NAME my-run
: "${POLL:=30}" "${KEEP:=}" "${NAMESPACE:=}" "${RESTARTS:=10}" "${TOPOLOGY:=}"
: "${CLAIM:=}"
kubectl=(kubectl)
[[ -z $NAMESPACE ]] || kubectl+=("--namespace=$NAMESPACE")
keys=(NAME IMAGE CLAIM ACCELERATOR TOPOLOGY HOSTS CHIPS RESTARTS)

check() {
  local key
  # shellcheck disable=SC2153 # NAME is the user's
  [[ $NAME =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
    refuse "NAME=$NAME must be small letters, digits and -, at most 40," \
      'since it becomes part of host names'
  for key in HOSTS CHIPS RESTARTS; do
    [[ ${!key} =~ ^[0-9]+$ ]] || refuse "$key=${!key} must be a number"
  done
  for key in "${keys[@]}"; do
    [[ ${!key} =~ ^[A-Za-z0-9_./:@-]*$ ]] ||
      refuse "$key=${!key} must be one word of letters, digits and _ . / : @ -"
  done
}

# WORD …: a JSON list, which is YAML. Kubernetes would replace $(…).
json() {
  local word between=
  printf '['
  for word; do
    [[ $word != *[[:cntrl:]]* ]] || refuse "$(quoted "$word") must be one line"
    word=${word//\\/\\\\}
    word=${word//\"/\\\"}
    word=${word//\$\(/\$\$(}
    printf '%s"%s"' "$between" "$word"
    between=', '
  done
  printf ']'
}

# FILE FLAG …: the file with values in it.
fill() {
  local text key devices flags
  text=$(< "$1")
  [[ -n $CLAIM ]] ||
    text=${text/persistentVolumeClaim:*claimName: \$CLAIM/emptyDir: {\}}
  flags=$(json "${@:2}")
  devices=$(seq -s , 0 $((CHIPS - 1)))
  for key in "${keys[@]}"; do
    text=${text//"\$$key"/"${!key}"}
  done
  text=${text//\$DEVICES/"$devices"}
  printf '%s\n' "${text//\$FLAGS/"$flags"}"
}

delete() {
  remove 'its pods may keep nodes that cost money' \
    "${kubectl[@]}" delete jobset "$NAME" --ignore-not-found
}

clean_up() {
  local code=$?
  begin_clean_up
  if [[ -n $KEEP ]]; then
    echo "launch/${0##*/}: $NAME is kept; its pods have their nodes until they" \
      "end, or: NAME=$NAME${NAMESPACE:+ NAMESPACE=$NAMESPACE} $0 delete" >&2
  else
    delete || code=$((code ? code : 1))
  fi
  exit "$code"
}

# Returns when the JobSet has ended.
follow() {
  local state missed=0
  while :; do
    # Pods that do not run yet, or no more, are no failure: they are waited for.
    step "${kubectl[@]}" logs --follow --prefix --tail=-1 --max-log-requests=1000 \
      "--selector=jobset.sigs.k8s.io/jobset-name=$NAME" || true
    state=$(ask Completed "${kubectl[@]}" get jobset "$NAME" \
      '--output=jsonpath={.status.terminalState}') || state=unread
    case $state in
      Completed) return 0 ;;
      Failed) fail "the JobSet $NAME has failed; its last lines are above" ;;
      unread) ((++missed < 10)) || fail "the cluster did not answer $missed times" ;;
      *) missed=0 ;;
    esac
    sleep "$POLL"
  done
}

run() {
  local kind=${1:-} text there
  [[ $kind == tpu || $kind == gpu ]] ||
    refuse "run ${kind:-…} must be run tpu or run gpu"
  shift
  need IMAGE "registry/ptjax:$kind"
  [[ $(workdir_of "$@") == gs://* ]] || need CLAIM shared
  need ACCELERATOR tpu-v5-lite-podslice
  [[ $kind == gpu ]] || need TOPOLOGY 4x4
  need HOSTS 4
  need CHIPS 4
  check
  need_workdir "$@"
  text=$(fill "$here/gke/jobset-$kind.yaml" "$@")
  need_program kubectl
  there=$(ask '' "${kubectl[@]}" get jobset "$NAME" --ignore-not-found \
    --output=name) || fail 'the cluster cannot be read, so nothing was made'
  [[ -z $there ]] || refuse "the JobSet $NAME is there already; delete it by" \
    "NAME=$NAME $0 delete, or choose another NAME"
  clean_up_at_end
  step "${kubectl[@]}" apply --filename=- <<< "$text"
  [[ -z $dry ]] || printf '%s\n' "$text"
  follow
}

case $verb in
  run) run "$@" ;;
  logs) need_program kubectl && follow ;;
  delete) need_program kubectl && delete ;;
  *) refuse "${verb:-nothing} is no verb; it can be run, logs or delete" ;;
esac
