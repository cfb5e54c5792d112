#!/usr/bin/env bash
# Scores an ensemble of prompts: each example meets every prompt in one pass.
# usage: launch/ensemble.sh TASK PROMPT [PROMPT …] [-- FLAG …]
#   PROMPT: a prompt file, a bank or the folder of a run.
#   MODEL and DATA from the environment; by default the embedded ones.
set -euo pipefail
task=${1:?usage: launch/ensemble.sh TASK PROMPT [PROMPT …] [-- FLAG …]}
shift
prompts=()
while (($#)) && [[ $1 != -- ]]; do
  prompts+=("$1")
  shift
done
if (($#)); then shift; fi
((${#prompts[@]})) || { echo 'launch/ensemble.sh: no prompt is named' >&2; exit 2; }
words="task=$task${MODEL:+,model=$MODEL}${DATA:+,data=$DATA}"
joined=$(IFS=,; echo "${prompts[*]}")
exec "${PYTHON:-python}" -m ptjax.main --mode=evaluate \
  --config="configs/superglue.py:$words" --prompt="$joined" "$@"
