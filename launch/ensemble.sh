#!/usr/bin/env bash
# Scores an ensemble of prompts: each example meets every prompt in one pass.
# usage: launch/ensemble.sh [--dry-run] TASK PROMPT [PROMPT …] [-- FLAG …]
#   PROMPT: a prompt file, a bank or the folder of a run.
#   MODEL and DATA from the environment; by default the embedded ones.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "$0")/steps.sh"
if [[ ${1:-} == --dry-run ]]; then dry=1 && shift; fi
task=${1:-}
[[ -n $task ]] || refuse "say the task and its prompts: $0 cb runs/mine"
shift
prompts=()
while (($#)) && [[ $1 != -- ]]; do
  prompts+=("$1")
  shift
done
if (($#)); then shift; fi
((${#prompts[@]})) || refuse "no prompt is named: $0 $task runs/mine"
words="task=$task${MODEL:+,model=$MODEL}${DATA:+,data=$DATA}"
joined=$(IFS=,; echo "${prompts[*]}")
command=("${PYTHON:-python}" -m ptjax.main --mode=evaluate
  "--config=configs/superglue.py:$words" "--prompt=$joined" "$@")
if [[ -n $dry ]]; then say "${command[@]}"; else exec "${command[@]}"; fi
