"""Stand-ins for the programs that the launchers call, and for Python.

First on PATH, they write down how they were called; some do what a test needs,
such as running on "hosts" (folders) what gcloud is to run there.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAUNCH = ROOT / 'launch'
WORKDIR = '--workdir=/shared/my run'
FLAGS = ['--config=configs/superglue.py:task=cb+rte', WORKDIR]
TPU = {'NAME': 'my-tpu', 'ZONE': 'us-west4-a', 'TYPE': 'v5litepod-16'}
# Words that a shell, JSON or Kubernetes would change.
ODD = """--config.method.instruction=it's "$NAME" & $(NAME) \\ {x}"""

# A stand-in fails where its call has $FAIL in it.
NOTE = r"""#!/usr/bin/env bash
printf '%s\037' "${0##*/}" "$@" >> "$ROOM/calls"
printf '\n' >> "$ROOM/calls"
if [[ -n ${FAIL:-} && " $*" == *"$FAIL"* ]]; then exit 1; fi
"""
GCLOUD = r"""
case " $*" in
  *' queued-resources list'*) cat "$ROOM/names" 2> /dev/null || true ;;
  *' queued-resources describe'*)
    state=$(head -n 1 "$ROOM/states" 2> /dev/null)
    sed -i 1d "$ROOM/states" 2> /dev/null
    echo "${state:-ACTIVE}" ;;
  *' tpu-vm scp'*)
    for host in 0 1; do mkdir -p "$ROOM/$host"; cp "$5" "$ROOM/$host"/; done
    for host in 0 1; do mv "$ROOM/$host/${5##*/}" "$ROOM/$host/${6#*:}"; done ;;
  *' tpu-vm ssh'*)
    words=$*
    hosts=${words##*--worker=}
    hosts=${hosts%% *}
    code=0
    for host in ${hosts/all/0 1}; do
      (cd "$ROOM/$host" && bash -c "${words##*--command=}") || code=$?
    done
    exit $code ;;
esac
"""
# Packing the checkout takes its time: here only what a host calls.
TAR = r"""
if [[ " $*" == *' -czf '* ]]; then
  echo packed > "${*: -2:1}"
else
  mkdir -p ptjax/launch
  cp "$LAUNCH/host.sh" ptjax/launch/
fi
"""
# A process that has ended can be a process for long, where the host's first
# one is slow to notice; the run's code says it sooner.
TAIL = f"""#!/usr/bin/env bash
while [[ " $*" == *--pid* && ! -e run.code ]]; do sleep 0.02; done
exec {shutil.which('tail')} ${{@/-f/}}
"""
# Makes an environment whose Python is PYTHON.
PYTHON3 = r"""
if [[ "$2 $3" == 'uv venv' ]]; then
  mkdir -p .venv/bin
  cp "$ROOM/bin/python" .venv/bin/
fi
"""
PYTHON = r"""#!/usr/bin/env bash
trap 'echo saved >> "$ROOM/saved"; exit 1' TERM
printf '%s\037' "$PWD" "${JAX_COORDINATOR_ADDRESS:-}" \
  "${JAX_NUM_PROCESSES:-}" "${JAX_PROCESS_ID:-}" \
  "${JAX_LOCAL_DEVICE_IDS:-}" "$@" > "$ROOM/run.$BASHPID"
mv "$ROOM/run.$BASHPID" "$ROOM/ran.$BASHPID"
echo "step 1"
while [[ -n ${SLOW:-} ]]; do sleep 0.05; done
if [[ -n ${CODE_OF:-} && $CODE_OF == "${JAX_PROCESS_ID:-}" ]]; then exit 3; fi
exit "${CODE:-0}"
"""
KUBECTL = r"""
case " $*" in
  *' apply'*) cat > "$ROOM/applied" ;;
  *' get jobset'*terminalState*)
    state=$(head -n 1 "$ROOM/states" 2> /dev/null)
    sed -i 1d "$ROOM/states" 2> /dev/null
    state=${state:-Completed}
    echo "${state#going}" ;;
  *' get jobset'*) cat "$ROOM/names" 2> /dev/null || true ;;
  *' logs'*) while [[ -n ${SLOW:-} ]]; do sleep 0.05; done ;;
esac
"""
SRUN = r"""
while [[ $1 == -* ]]; do shift; done
for task in 0 1; do SLURM_PROCID=$task "$@" & tasks+=($!); done
trap 'kill -TERM "${tasks[@]}"' TERM
for task in "${tasks[@]}"; do
  while
    code=0
    wait "$task" || code=$?
    kill -0 "$task" 2> /dev/null
  do :; done
  ((code <= worst)) || worst=$code
done
exit $((worst))
"""
SCONTROL = r"""
if [[ $1 == show ]]; then printf 'node7\nnode9\n'; fi
"""


def _hears_interrupts() -> None:
  """In a job in the background SIGINT is ignored, and stays so in bash."""
  signal.signal(signal.SIGINT, signal.SIG_DFL)


class Place:
  """A folder with stand-ins, and what they were called with."""

  def __init__(self, room: pathlib.Path):
    self.room = room
    (room / 'bin').mkdir()
    made = {
      'gcloud': NOTE + GCLOUD,
      'kubectl': NOTE + KUBECTL,
      'srun': NOTE + SRUN,
      'scontrol': NOTE + SCONTROL,
      'tar': NOTE + TAR,
      'tail': TAIL,
      'python3': NOTE + PYTHON3,
      'python': PYTHON,
    }
    for name, text in made.items():
      path = room / 'bin' / name
      path.write_text(text)
      path.chmod(0o755)

  def start(self, script: str, *words: str, **env: str) -> subprocess.Popen:
    base = {
      'PATH': f'{self.room / "bin"}:{os.environ["PATH"]}',
      'ROOM': str(self.room),
      'LAUNCH': str(LAUNCH),
      'TMPDIR': str(self.room),
      'PYTHON': str(self.room / 'bin/python'),
      'POLL': '0',
      'PORT': '9',
    }
    return subprocess.Popen(
      [LAUNCH / script, *words],
      cwd=ROOT,
      env={**base, **env},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      preexec_fn=_hears_interrupts,
    )

  def do(self, script: str, *words: str, **env: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    started = self.start(script, *words, **env)
    out, said = started.communicate(timeout=60)
    return started.returncode, out, said

  def read(self, name: str) -> str:
    path = self.room / name
    return path.read_text() if path.exists() else ''

  def calls(self, program: str) -> list[list[str]]:
    """The words of each call."""
    rows = [line.split('\037')[:-1] for line in self.read('calls').split('\n')]
    return [row[1:] for row in rows if row[:1] == [program]]

  def runs(self) -> list[list[str]]:
    """Of each run: folder, coordinator, count, index, devices, flags …"""
    found = [p.read_text().split('\037')[:-1] for p in self.room.glob('ran.*')]
    return sorted(found)

  def until(self, pattern: str, count: int) -> None:
    """Returns when so many files have such a name."""
    _until(lambda: len(list(self.room.glob(pattern))) >= count)

  def until_called(self, program: str, word: str) -> None:
    """Returns when a call begins with this word."""
    _until(lambda: [word] in [call[:1] for call in self.calls(program)])


def _until(happened: Callable[[], bool]) -> None:
  end = time.monotonic() + 30
  while not happened():
    assert time.monotonic() < end
    time.sleep(0.02)
