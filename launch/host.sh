#!/usr/bin/env bash
# What each TPU host does, in the copy of this checkout that it was sent.
# usage: launch/host.sh install | start FLAG … | follow | code | stop
#   FLAG …: of python -m ptjax.main. `code` says a number or `running`; `stop`
#   lets the run save, for STOP_WITHIN seconds at most (default 300).
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  install)
    # Images for TPUs may have a Python that is older than 3.11.
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --clear --python=3.12 .venv
    python3 -m uv pip install --quiet --python=.venv -e . 'jax[tpu]'
    ;;
  start)
    shift
    if [[ -e run.pid && ! -e run.code ]] && kill -0 "$(< run.pid)" 2> /dev/null
    then
      echo 'launch/host.sh: a run is going here; stop ends it' >&2
      exit 2
    fi
    rm -f run.code
    # Goes on when the connection ends. Bash stays, for the code; the run alone
    # hears of SIGTERM.
    JAX_COORDINATOR_ADDRESS=${JAX_COORDINATOR_ADDRESS:-auto} setsid nohup bash -c \
      'trap : TERM; "$@"; echo $? > run.code' ptjax \
      .venv/bin/python -m ptjax.main "$@" > run.log 2>&1 < /dev/null &
    echo $! > run.pid
    ;;
  follow) tail -n +1 --pid="$(< run.pid)" -f run.log ;;
  code) cat run.code 2> /dev/null || echo running ;;
  stop)
    [[ -e run.pid && ! -e run.code ]] || exit 0
    kill -TERM -- "-$(< run.pid)" || true
    end=$((SECONDS + ${STOP_WITHIN:-300}))
    until [[ -e run.code ]] || ((SECONDS >= end)); do sleep 0.2; done
    ;;
  *)
    echo 'usage: launch/host.sh install | start FLAG … | follow | code | stop' >&2
    exit 2
    ;;
esac
