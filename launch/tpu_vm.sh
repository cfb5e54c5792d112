#!/usr/bin/env bash
# One TPU VM: makes it, installs this checkout and starts the run in tmux.
# usage: NAME=my-tpu ZONE=us-central2-b TYPE=v4-8 launch/tpu_vm.sh CONFIG
set -euo pipefail
: "${NAME:?}" "${ZONE:?}" "${TYPE:?}" "${VERSION:=tpu-ubuntu2204-base}"
config=${1:-configs/superglue.py}
here=$(cd "$(dirname "$0")/.." && pwd)
tpu=(gcloud compute tpus tpu-vm)

"${tpu[@]}" create "$NAME" --zone="$ZONE" --accelerator-type="$TYPE" \
  --version="$VERSION"
"${tpu[@]}" scp --recurse "$here" "$NAME:ptjax" --zone="$ZONE"
"${tpu[@]}" ssh "$NAME" --zone="$ZONE" --command="
  cd ptjax && python3 -m venv .venv &&
  .venv/bin/pip install -q -e . 'jax[tpu]' &&
  tmux new -d -s ptjax '.venv/bin/python -m ptjax.main \
    --config=$config --workdir=runs/$NAME'"
