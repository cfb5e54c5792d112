"""A TPU from the queue: what would be run, and what is done to a stand-in."""

import os
import shlex
import shutil
import signal
import subprocess

import pytest
from launchers import FLAGS, LAUNCH, ODD, TPU, Place

VERBS = ('list', 'create', 'describe', 'scp', 'ssh', 'delete')


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
