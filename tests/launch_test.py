"""The launchers: what they would run, and what they do to stand-ins.

gcloud, kubectl, srun and Python are programs of the test, first on PATH, that
write down how they were called. No cloud, and no run but the last test's.
"""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import tiny

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAUNCH = ROOT / 'launch'
SCRIPTS = sorted([*LAUNCH.glob('*.sh'), *LAUNCH.glob('*.sbatch')])
PAGES = sorted(LAUNCH.glob('*.md'))
WORKDIR = '--workdir=/shared/my run'
FLAGS = ['--config=configs/superglue.py:task=cb+rte', WORKDIR]
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
    end = time.monotonic() + 30
    while len(list(self.room.glob(pattern))) < count:
      assert time.monotonic() < end
      time.sleep(0.02)


@pytest.fixture
def place(tmp_path):
  return Place(tmp_path)


def kinds(calls: list[list[str]]) -> list[str]:
  """Short: 'create', 'ssh all host.sh install'."""
  out = []
  for words in calls:
    kind = next(w for w in words if w in VERBS)
    if kind == 'ssh':
      given = dict(w[2:].split('=', 1) for w in words if w[:2] == '--')
      said = given['command'].split('ptjax/launch/')[-1].split('--')[0]
      kind = f'ssh {given["worker"]} {said.strip()}'
    out.append(kind)
  return out


VERBS = ('list', 'create', 'describe', 'scp', 'ssh', 'delete')
TPU = {'NAME': 'my-tpu', 'ZONE': 'us-west4-a', 'TYPE': 'v5litepod-16'}
GKE = {
  'NAME': 'my-run',
  'IMAGE': 'registry/ptjax:1',
  'CLAIM': 'shared',
  'ACCELERATOR': 'tpu-v5-lite-podslice',
  'TOPOLOGY': '4x4',
  'HOSTS': '4',
  'CHIPS': '4',
}


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda p: p.name)
def test_a_script_parses(script):
  subprocess.run(['bash', '-n', script], check=True)
  assert script.name == 'steps.sh' or os.access(script, os.X_OK)


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_what_a_page_says_to_type_parses(page):
  blocks = re.findall(r'```sh\n(.*?)```', page.read_text(), re.DOTALL)
  for block in blocks:
    subprocess.run(['bash', '-n'], input=block, text=True, check=True)


def test_shellcheck_finds_nothing():
  program = shutil.which('shellcheck')
  if not program:
    pytest.skip('shellcheck is not installed')
  done = subprocess.run(
    [program, '--external-sources', *SCRIPTS],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert not done.returncode, done.stdout


def test_a_dry_run_of_a_tpu_says_each_command_and_does_none(place):
  code, out, said = place.do(
    'tpu_queued.sh',
    '--dry-run',
    'run',
    *FLAGS,
    ODD,
    **TPU,
    SPOT='1',
    PROJECT='mine',
    SETUP='sudo mount nfs:/a "/shared"',
  )
  assert (code, said) == (0, '') and not place.calls('gcloud')
  *lines, start, follow, ask, delete = map(shlex.split, out.splitlines())
  at = ['--zone=us-west4-a', '--project=mine']
  queue = ['gcloud', 'compute', 'tpus', 'queued-resources']
  vm = ['gcloud', 'compute', 'tpus', 'tpu-vm']
  packed = f'{place.room}/ptjax-my-tpu.tar.gz'
  ssh = [*vm, 'ssh', 'my-tpu', *at, '--worker=all']
  assert lines[1][0] == 'tar' and lines[1][-2:] == [packed, '.']
  del lines[1]
  assert lines == [
    [*queue, 'list', *at, '--format=value(name)'],
    [*queue, 'create', 'my-tpu', '--node-id=my-tpu', *at]
    + ['--accelerator-type=v5litepod-16']
    + ['--runtime-version=v2-alpha-tpuv5-lite', '--spot'],
    [*queue, 'describe', 'my-tpu', *at, '--format=value(state.state)'],
    [*vm, 'scp', packed, 'my-tpu:ptjax.tar.gz', *at, '--worker=all'],
    [*ssh, '--command=sudo mount nfs:/a "/shared"'],
    [*ssh, '--command=mkdir -p ptjax && tar -xzf ptjax.tar.gz -C ptjax'],
    [*ssh, '--command=ptjax/launch/host.sh install'],
  ]
  *words, command = start
  assert words == ssh
  assert shlex.split(command.removeprefix('--command=')) == [
    'ptjax/launch/host.sh',
    'start',
    *FLAGS,
    ODD,
  ]
  assert follow[-2:] == ['--worker=0', '--command=ptjax/launch/host.sh follow']
  assert ask[-2:] == ['--worker=0', '--command=ptjax/launch/host.sh code']
  assert delete == [*queue, 'delete', 'my-tpu', *at, '--force', '--quiet']


def test_a_tpu_run_reaches_each_host_and_leaves_nothing(place):
  (place.room / 'bin/tar').unlink()  # the real one
  (place.room / 'states').write_text('WAITING_FOR_RESOURCES\nPROVISIONING\n')
  (place.room / 'names').write_text('projects/p/queuedResources/not-my-tpu\n')
  code, out, said = place.do('tpu_queued.sh', 'run', *FLAGS, ODD, **TPU)
  assert code == 0, said
  assert kinds(place.calls('gcloud')) == [
    'list',
    'create',
    *['describe'] * 3,
    'scp',
    'ssh all mkdir -p ptjax && tar -xzf ptjax.tar.gz -C ptjax',
    'ssh all host.sh install',
    'ssh all host.sh start',
    'ssh 0 host.sh follow',
    'ssh 0 host.sh code',
    'delete',
  ]
  folders = [str(place.room / host / 'ptjax') for host in '01']
  main = ['-m', 'ptjax.main', *FLAGS, ODD]
  assert place.runs() == [[f, 'auto', '', '', '', *main] for f in folders]
  assert 'step 1' in out
  assert ['-m', 'uv', 'pip', 'install', '--quiet', '--python=.venv'] + [
    '-e',
    '.',
    'jax[tpu]',
  ] in place.calls('python3')
  assert not list(place.room.glob('*.tar.gz'))


@pytest.mark.parametrize(
  'env,names',
  [
    ({'FAIL': ' create '}, ['list', 'create', 'delete']),
    ({'FAIL': ' scp '}, ['list', 'create', 'describe', 'scp', 'delete']),
    ({'FAIL': '/host.sh install'}, ['ssh all host.sh install', 'delete']),
    (
      {'CODE': '2'},
      ['ssh 0 host.sh code', 'ssh all tail -n 20 ptjax/run.log', 'delete'],
    ),
  ],
)
def test_a_tpu_is_deleted_after_a_failure(place, env, names):
  code, _, said = place.do('tpu_queued.sh', 'run', *FLAGS, **TPU, **env)
  assert code == int(env.get('CODE', 1)), said
  assert kinds(place.calls('gcloud'))[-len(names) :] == names


@pytest.mark.parametrize('state', ['FAILED', 'SUSPENDED'])
def test_a_tpu_that_the_queue_gives_up_is_deleted(place, state):
  (place.room / 'states').write_text(f'{state}\n')
  code, _, said = place.do('tpu_queued.sh', 'run', *FLAGS, **TPU)
  assert code == 1 and f'the queue says my-tpu is {state}' in said
  assert kinds(place.calls('gcloud'))[-2:] == ['describe', 'delete']


def test_a_host_that_is_gone_is_told_and_its_tpu_deleted(place):
  code, _, said = place.do(
    'tpu_queued.sh', 'run', *FLAGS, **TPU, FAIL='--worker=0'
  )
  assert code == 1
  assert 'the same command goes on from the last checkpoint' in said
  assert kinds(place.calls('gcloud'))[-2:] == ['ssh 0 host.sh code', 'delete']


@pytest.mark.parametrize(
  'number,code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_tpu_run_that_is_stopped_saves_and_is_deleted(place, number, code):
  started = place.start('tpu_queued.sh', 'run', *FLAGS, **TPU, SLOW='1')
  place.until('ran.*', 2)
  started.send_signal(number)
  _, said = started.communicate(timeout=60)
  assert started.returncode == code, said
  assert place.read('saved') == 'saved\n' * 2
  assert kinds(place.calls('gcloud'))[-2:] == [
    'ssh all host.sh stop',
    'delete',
  ]


def test_a_tpu_that_cannot_be_deleted_is_told_with_the_command(place):
  code, _, said = place.do(
    'tpu_queued.sh', 'run', *FLAGS, **TPU, FAIL=' delete '
  )
  assert code == 1
  last = said.splitlines()[-1]
  assert 'my-tpu is NOT deleted, and costs money' in last
  assert shlex.split(last.split('delete it by: ')[1]) == [
    *['gcloud', 'compute', 'tpus', 'queued-resources', 'delete', 'my-tpu'],
    *['--zone=us-west4-a', '--force', '--quiet'],
  ]


def test_a_tpu_of_that_name_is_neither_made_nor_deleted(place):
  (place.room / 'names').write_text('projects/p/queuedResources/my-tpu\n')
  code, _, said = place.do('tpu_queued.sh', 'run', *FLAGS, **TPU)
  assert code == 2 and 'my-tpu is there already' in said
  assert kinds(place.calls('gcloud')) == ['list']
  code, _, said = place.do('tpu_queued.sh', 'run', *FLAGS, **TPU, KEEP='1')
  assert code == 0 and 'my-tpu is kept, and costs money until' in said
  assert not {'create', 'delete'} & set(kinds(place.calls('gcloud')))


def test_a_queue_that_cannot_be_read_ends_before_anything_is_made(place):
  code, _, said = place.do('tpu_queued.sh', 'run', *FLAGS, **TPU, FAIL=' list ')
  assert code == 1 and 'nothing was made' in said
  assert kinds(place.calls('gcloud')) == ['list']


@pytest.mark.parametrize(
  'script,words,env,sentence',
  [
    ('tpu_queued.sh', ['run', *FLAGS], {**TPU, 'NAME': ''}, 'NAME is not set'),
    ('tpu_queued.sh', ['run', *FLAGS], {**TPU, 'ZONE': ''}, 'ZONE is not set'),
    ('tpu_queued.sh', ['run', *FLAGS], {**TPU, 'TYPE': ''}, 'TYPE is not set'),
    ('tpu_queued.sh', ['run', *FLAGS], {**TPU, 'TYPE': 'v9-8'}, 'TYPE=v9-8'),
    ('tpu_queued.sh', ['run'], TPU, '--workdir=… must be an absolute folder'),
    ('tpu_queued.sh', ['run', '--workdir=runs/a'], TPU, '--workdir=runs/a'),
    ('tpu_queued.sh', ['go'], TPU, 'go is no verb; it can be run, logs or'),
    ('gke.sh', ['run', 'tpu', *FLAGS], {**GKE, 'NAME': ''}, 'NAME is not set'),
    ('gke.sh', ['run', 'tpu', *FLAGS], {**GKE, 'NAME': 'A_1'}, 'NAME=A_1 must'),
    ('gke.sh', ['run', 'tpu', *FLAGS], {**GKE, 'TOPOLOGY': ''}, 'TOPOLOGY is'),
    ('gke.sh', ['run', 'gpu', *FLAGS], {**GKE, 'ACCELERATOR': ''}, 'ACCELERA'),
    ('gke.sh', ['run', 'gpu', *FLAGS], {**GKE, 'HOSTS': 'two'}, 'HOSTS=two'),
    ('gke.sh', ['run', 'gpu', *FLAGS], {**GKE, 'IMAGE': 'a b'}, 'IMAGE=a b'),
    ('gke.sh', ['run', 'cpu', *FLAGS], GKE, 'run cpu must be run tpu or'),
    ('gke.sh', ['run', 'gpu'], GKE, '--workdir=… must be an absolute folder'),
    ('slurm.sbatch', FLAGS, {}, 'there is no SLURM_JOB_ID'),
    (
      'slurm.sbatch',
      FLAGS,
      {'SLURM_JOB_ID': '1', 'SLURM_NNODES': '1', 'SLURM_JOB_NODELIST': 'a'},
      'the job has no GPU',
    ),
    ('local.sh', ['two', '--', *FLAGS], {}, 'say how many processes'),
    ('local.sh', ['2', *FLAGS], {}, 'say how many processes'),
  ],
)
def test_a_mistake_is_one_sentence_before_anything_is_made(
  place, script, words, env, sentence
):
  code, out, said = place.do(script, *words, **env)
  assert (code, out, said.count('\n')) == (2, '', 1)
  assert said.startswith(f'launch/{script}: ') and sentence in said
  assert not place.read('calls')


def test_a_program_that_is_missing_is_named(place):
  (place.room / 'bin/gcloud').unlink()
  (place.room / 'bin/bash').symlink_to(shutil.which('bash'))
  (place.room / 'bin/dirname').symlink_to(shutil.which('dirname'))
  path = str(place.room / 'bin')
  done = subprocess.run(
    [shutil.which('bash'), LAUNCH / 'tpu_queued.sh', 'run', *FLAGS],
    env={**TPU, 'PATH': path},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2 and 'gcloud is not installed' in done.stderr


@pytest.mark.parametrize('kind', ['tpu', 'gpu'])
def test_a_jobset_says_who_the_pods_are(place, kind):
  yaml = pytest.importorskip('yaml', reason='PyYAML is not installed')
  template = yaml.safe_load((LAUNCH / f'gke/jobset-{kind}.yaml').read_text())
  assert template['kind'] == 'JobSet'
  code, _, said = place.do('gke.sh', 'run', kind, *FLAGS, ODD, **GKE)
  assert code == 0, said
  made = yaml.safe_load(place.read('applied'))
  assert made['metadata']['name'] == 'my-run'
  assert made['spec']['failurePolicy']['maxRestarts'] == 10
  (group,) = made['spec']['replicatedJobs']
  job = group['template']['spec']
  assert (job['parallelism'], job['completions']) == (4, 4)
  (container,) = job['template']['spec']['containers']
  assert container['image'] == 'registry/ptjax:1'
  # Kubernetes makes $( of $$(.
  words = [word.replace('$$(', '$(') for word in container.pop('args')]
  assert '$' not in yaml.dump(made)
  assert container['command'] == ['python', '-m', 'ptjax.main']
  assert words == [*FLAGS, ODD]
  env = {item['name']: item.get('value') for item in container['env']}
  nodes = job['template']['spec']['nodeSelector']
  limits = container['resources']['limits']
  if kind == 'tpu':
    assert env == {'JAX_COORDINATOR_ADDRESS': 'auto'}
    assert nodes['cloud.google.com/gke-tpu-topology'] == '4x4'
    assert limits == {'google.com/tpu': 4}
  else:
    assert env == {
      'JAX_COORDINATOR_ADDRESS': 'my-run-worker-0-0.my-run:8476',
      'JAX_NUM_PROCESSES': '4',
      'JAX_PROCESS_ID': None,
      'JAX_LOCAL_DEVICE_IDS': '0,1,2,3',
    }
    assert limits == {'nvidia.com/gpu': 4}


def test_a_dry_run_of_a_jobset_says_each_command_and_does_none(place):
  code, out, said = place.do(
    'gke.sh', '--dry-run', 'run', 'gpu', *FLAGS, **GKE, NAMESPACE='team'
  )
  assert (code, said) == (0, '') and not place.calls('kubectl')
  kubectl = ['kubectl', '--namespace=team']
  found = [l for l in map(str.split, out.splitlines()) if l[:1] == ['kubectl']]
  assert found[:2] == [
    [
      *kubectl,
      'get',
      'jobset',
      'my-run',
      '--ignore-not-found',
      '--output=name',
    ],
    [*kubectl, 'apply', '--filename=-'],
  ]
  assert found[2][2:4] == ['logs', '--follow']
  assert found[-1] == [
    *kubectl,
    *['delete', 'jobset', 'my-run', '--ignore-not-found'],
  ]
  assert 'kind: JobSet' in out


@pytest.mark.parametrize(
  'env,states,sentence',
  [
    ({'FAIL': ' apply '}, '', ''),
    ({}, 'going\nFailed\n', 'the JobSet my-run has failed'),
    ({'FAIL': 'terminalState'}, '', 'the cluster did not answer'),
  ],
)
def test_a_jobset_is_deleted_after_a_failure(place, env, states, sentence):
  (place.room / 'states').write_text(states)
  code, _, said = place.do('gke.sh', 'run', 'tpu', *FLAGS, **GKE, **env)
  assert code == 1 and sentence in said
  assert place.calls('kubectl')[-1][:3] == ['delete', 'jobset', 'my-run']


def test_a_jobset_that_is_stopped_is_deleted(place):
  started = place.start('gke.sh', 'run', 'tpu', *FLAGS, **GKE, SLOW='1')
  place.until('applied', 1)
  while ['logs'] not in [call[:1] for call in place.calls('kubectl')]:
    time.sleep(0.02)
  started.send_signal(signal.SIGINT)
  _, said = started.communicate(timeout=60)
  assert started.returncode == 130, said
  assert place.calls('kubectl')[-1][:3] == ['delete', 'jobset', 'my-run']


def test_a_jobset_that_cannot_be_deleted_is_told_with_the_command(place):
  code, _, said = place.do(
    'gke.sh', 'run', 'tpu', *FLAGS, **GKE, FAIL='delete '
  )
  assert code == 1
  assert said.splitlines()[-1].endswith(
    'delete it by: kubectl delete jobset my-run --ignore-not-found'
  )


def test_a_jobset_of_that_name_is_neither_made_nor_deleted(place):
  (place.room / 'names').write_text('jobset.jobset.x-k8s.io/my-run\n')
  code, _, said = place.do('gke.sh', 'run', 'tpu', *FLAGS, **GKE)
  assert code == 2 and 'is there already' in said
  assert [call[0] for call in place.calls('kubectl')] == ['get']


SLURM = {
  'SLURM_JOB_ID': '40007',
  'SLURM_NNODES': '2',
  'SLURM_GPUS_ON_NODE': '4',
  'SLURM_JOB_NODELIST': 'node[7,9]',
}


def test_each_task_of_slurm_knows_who_it_is(place):
  code, _, said = place.do('slurm.sbatch', *FLAGS, ODD, **SLURM)
  assert code == 0, said
  main = ['-m', 'ptjax.main', *FLAGS, ODD]
  assert place.runs() == [
    [str(ROOT), 'node7:20007', '2', i, '0,1,2,3', *main] for i in '01'
  ]
  assert len(place.calls('scontrol')) == 1


def test_a_job_that_slurm_stops_saves_and_is_requeued(place):
  started = place.start('slurm.sbatch', *FLAGS, **SLURM, SLOW='1')
  place.until('ran.*', 2)
  started.send_signal(signal.SIGTERM)
  _, said = started.communicate(timeout=60)
  assert started.returncode == 1, said
  assert place.read('saved') == 'saved\n' * 2
  assert place.calls('scontrol')[-1] == ['requeue', '40007']


def test_a_job_that_fails_is_not_requeued(place):
  code, _, _ = place.do('slurm.sbatch', *FLAGS, **SLURM, CODE='1')
  assert code == 1 and len(place.calls('scontrol')) == 1


def test_local_processes_know_who_they_are(place):
  code, out, said = place.do('local.sh', '3', '--', *FLAGS, ODD)
  assert (code, said) == (0, '') and out.count('step 1') == 3
  main = ['-m', 'ptjax.main', *FLAGS, ODD]
  assert place.runs() == [
    [str(ROOT), '127.0.0.1:9', '3', i, '', *main] for i in '012'
  ]
  code, out, _ = place.do('local.sh', '--dry-run', '3', '--', *FLAGS, ODD)
  lines = [shlex.split(line) for line in out.splitlines()]
  assert [words[-len(main) :] for words in lines] == [main] * 3
  assert [words[3] for words in lines] == [f'JAX_PROCESS_ID={i}' for i in '012']


def test_local_processes_that_outlive_a_failed_one_are_killed(place):
  env = {'CODE_OF': '1', 'PATIENCE': '1'}
  # The others wait for ever.
  script = (place.room / 'bin/python').read_text()
  loop = 'while [[ $JAX_PROCESS_ID != 1 ]]; do sleep 0.05; done'
  script = script.replace('while [[ -n ${SLOW:-} ]]; do sleep 0.05; done', loop)
  script = script.replace("exit 1' TERM", ":' TERM")  # like jax
  (place.room / 'bin/python').write_text(script)
  code, _, said = place.do('local.sh', '3', '--', *FLAGS, **env)
  assert code == 3 and '2 did not end in 1 s: killed' in said


def test_local_processes_all_hear_that_they_are_to_stop(place):
  started = place.start('local.sh', '2', '--', *FLAGS, SLOW='1')
  place.until('ran.*', 2)
  started.send_signal(signal.SIGTERM)
  started.communicate(timeout=60)
  assert started.returncode == 1 and place.read('saved') == 'saved\n' * 2


def test_a_host_has_one_run_at_a_time(place):
  home = place.room / 'ptjax'
  for name in ('.venv/bin', 'launch'):
    (home / name).mkdir(parents=True)
  shutil.copy(LAUNCH / 'host.sh', home / 'launch')
  shutil.copy(place.room / 'bin/python', home / '.venv/bin')
  host = home / 'launch/host.sh'
  env = {**os.environ, 'ROOM': str(place.room), 'SLOW': '1'}
  try:
    subprocess.run([host, 'start', *FLAGS], env=env, check=True)
    place.until('ran.*', 1)
    again = subprocess.run([host, 'start'], env=env, capture_output=True)
    assert again.returncode == 2 and b'a run is going here' in again.stderr
    code = subprocess.run([host, 'code'], capture_output=True, text=True)
    assert code.stdout == 'running\n'
  finally:
    subprocess.run([host, 'stop'], env=env, check=True)
  code = subprocess.run([host, 'code'], capture_output=True, text=True)
  assert code.stdout == '1\n' and place.read('saved') == 'saved\n'


def test_an_ensemble_is_one_evaluation(place):
  code, _, said = place.do('ensemble.sh', 'cb', 'a', 'b', '--', ODD, MODEL='m')
  assert code == 0, said
  ((*_, first, mode, config, prompt, odd),) = place.runs()
  assert (first, mode) == ('ptjax.main', '--mode=evaluate')
  assert config == '--config=configs/superglue.py:task=cb,model=m'
  assert (prompt, odd) == ('--prompt=a,b', ODD)


def test_an_image_differs_in_jax_alone():
  lines = (LAUNCH / 'Dockerfile').read_text().splitlines()
  said = [line for line in lines if line and not line.startswith('#')]
  assert said[:3] == ['ARG BASE=python:3.12-slim-bookworm', 'FROM ${BASE}'] + [
    'ARG JAX=jax'
  ]
  for line in said:
    if line.startswith('COPY'):
      *sources, _ = line.split()[1:]
      ignored = (LAUNCH / 'Dockerfile.dockerignore').read_text().split()
      for source in sources:
        assert (ROOT / source).exists() and f'!{source}' in ignored


@pytest.mark.full
def test_two_local_processes_are_one_run_that_stops_and_goes_on(tmp_path):
  tiny.model_folder(tmp_path / 'model', tiny.changed(num_heads=4))
  tiny.data_folder(tmp_path / 'data')
  settings = {
    'task': 'cb',
    'train.steps': 24,
    'train.save_every': 1,  # so that a step takes long enough for a signal
    'train.eval_every': 12,
    'eval.untuned': 0,
    'eval.rank': False,
    'tensorboard': False,
    'eval.submission': False,
    'eval.batch_size': 12,
    'buckets': '(24,)',
  }
  command = [
    *(LAUNCH / 'local.sh', '2', '--'),
    f'--config=configs/superglue.py:{tiny.words(tmp_path, **settings)}',
    f'--workdir={tmp_path / "one run"}',
  ]
  own = {'env': {**os.environ, 'PYTHON': sys.executable}, 'cwd': ROOT}
  said = tmp_path / 'said'
  with said.open('w') as file:
    started = subprocess.Popen(command, stderr=file, **own)
    try:
      while not re.search('^cb [3-9]/', said.read_text(), re.MULTILINE):
        assert started.poll() is None, said.read_text()
        time.sleep(0.05)
      started.send_signal(signal.SIGTERM)
      assert started.wait(timeout=120) == 1
    finally:
      started.terminate()
  assert said.read_text().count('stopped by SIGTERM at step') == 1
  done = subprocess.run(command, capture_output=True, text=True, **own)
  assert not done.returncode, done.stderr
  assert done.stdout.count('resumed at step') == 1
  assert (tmp_path / 'one run/results.json').exists()
