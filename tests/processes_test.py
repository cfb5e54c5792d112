"""Several processes of one run: as one, stopped, killed, refused."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import fake_store
import numpy as np
import pytest
import safetensors.numpy
import tiny

from ptjax import config as config_lib
from ptjax import processes
from ptjax.config import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]
WAIT = 600  # seconds for a run of a few on a machine that has others
# Less work for the compiler, whose time this is.
FLAGS = '--xla_backend_optimization_level=0'


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  """A folder with a model of four heads, data, and the run of one process."""
  path = tmp_path_factory.mktemp('processes')
  tiny.model_folder(path / 'model', tiny.changed(num_heads=4))
  tiny.data_folder(path / 'data')
  (one,) = start(path, 'one', count=1)
  code, _, said = one.finish()
  assert code == 0, said
  return path


def free_port() -> int:
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


@dataclasses.dataclass
class Process:
  """One process of a run, whose words go to files."""

  popen: subprocess.Popen
  said: pathlib.Path

  def finish(self, timeout: float = WAIT) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    try:
      code = self.popen.wait(timeout)
    finally:
      self.popen.kill()
    words = [self.said.with_suffix(s).read_text() for s in ('.out', '.err')]
    return code, *words

  def until(self, pattern: str) -> None:
    """Returns when a line of progress matches."""
    end = time.monotonic() + WAIT
    path = self.said.with_suffix('.err')
    while not re.search(pattern, path.read_text(), re.MULTILINE):
      assert self.popen.poll() is None, path.read_text()
      assert time.monotonic() < end
      time.sleep(0.05)


def start(room, folder, *, count, own=({},) * 9, **changes) -> list[Process]:
  """The processes of a run; `own` is what each is told for itself."""
  settings = {**tiny.INTERRUPTED, 'optimizer.lr': 0.01, **changes}
  address = f'127.0.0.1:{free_port()}'
  out = []
  for index in range(count):
    env = {**os.environ, 'XLA_FLAGS': FLAGS}
    env['XDG_CACHE_HOME'] = str(room / f'machine{index}')
    if count > 1:
      env['JAX_COORDINATOR_ADDRESS'] = address
      env['JAX_NUM_PROCESSES'] = str(count)
      env['JAX_PROCESS_ID'] = str(index)
    words = tiny.words(room, **{**settings, **own[index]})
    place = folder if '://' in str(folder) else room / folder
    said = room / f'{len(list(room.glob("*.out")))}'
    with (
      open(said.with_suffix('.out'), 'w') as stdout,
      open(said.with_suffix('.err'), 'w') as stderr,
    ):
      popen = subprocess.Popen(
        [
          *(sys.executable, '-m', 'ptjax.main'),
          f'--config=configs/superglue.py:{words}',
          f'--workdir={place}',
        ],
        cwd=ROOT,
        env=env,
        stdout=stdout,
        stderr=stderr,
      )
    out.append(Process(popen, said))
  return out


def prompt(folder) -> np.ndarray:
  path = folder / 'prompts/cb.safetensors'
  return safetensors.numpy.load_file(path)['prompt/encoder']


def check_same(folder, one):
  """The prompt to 1e-5 of its largest value, every answer to the letter."""
  want = prompt(one)
  assert np.abs(prompt(folder) - want).max() < 1e-5 * np.abs(want).max()
  found, known = (
    json.loads((path / 'results.json').read_text())['tasks']['cb']
    for path in (folder, one)
  )
  assert found['metrics'] == known['metrics']
  lines, known = (
    (path / 'predictions/cb-dev.jsonl').read_text() for path in (folder, one)
  )
  assert lines == known


def test_two_are_stopped_by_one_and_killed_with_one_and_end_as_one(room):
  """Each time the run goes on; at last in one process, on another mesh."""
  first, second = start(room, 'two', count=2)
  first.until('^cb [3-9]/')
  second.popen.send_signal(signal.SIGTERM)
  code, out, said = first.finish()
  assert code == 1 and 'stopped by SIGTERM at step' in said, said
  at = int(re.search(r'SIGTERM at step (\d+), saved', said)[1])
  code, out, said = second.finish()
  # Only the first speaks; jax itself notes what it caught.
  assert code == 1 and not out and 'ptjax' not in said
  assert str(at) in os.listdir(room / 'two/checkpoints/cb')

  first, second = start(room, 'two', count=2)
  first.until(rf'^cb {at + 1}/')
  second.popen.kill()
  gone = time.monotonic()
  code, out, _ = first.finish(timeout=60)
  assert code != 0 and time.monotonic() - gone < 60
  assert f'resumed at step {at}' in out

  (last,) = start(room, 'two', count=1)
  code, out, said = last.finish()
  assert code == 0 and 'resumed at step' in out, said
  check_same(room / 'two', room / 'one')


@pytest.mark.full
def test_the_first_that_is_killed_leaves_no_other(room):
  """It has the coordinator with it, of which the other is told by no one."""
  first, second = start(room, 'headless', count=2)
  first.until('^cb [3-9]/')
  first.popen.kill()
  gone = time.monotonic()
  code, *_ = second.finish(timeout=60)
  assert code != 0 and time.monotonic() - gone < 60
  (last,) = start(room, 'headless', count=1)
  code, out, said = last.finish()
  assert code == 0 and 'resumed at step' in out, said
  check_same(room / 'headless', room / 'one')


# Less of a run; its prompts are larger than what the coordinator passes on.
BRIEF = {'train.steps': 12, 'train.eval_every': 6, 'method.length': 60}


def test_two_without_a_folder_between_them_go_on_from_a_bucket(room):
  """Stopped, both machines gone, and gone on with to the bits of a straight run
  of two that share a folder."""
  straight = start(room, 'shared', count=2, **BRIEF)
  code, _, said = straight[0].finish()
  assert code == 0, said
  (room / 'store/runs').mkdir(parents=True)
  address, left = 'gs://runs/two', room / 'store/runs/two'
  with fake_store.serving(room / 'store'):
    first, second = start(room, address, count=2, **BRIEF)
    first.until('^cb [3-9]/')
    second.popen.send_signal(signal.SIGTERM)
    code, _, said = first.finish()
    assert code == 1 and f'with --workdir={address} goes on' in said, said
    code, out, said = second.finish()
    assert code == 1 and not out and 'ptjax' not in said, said
    at = max(int(p.name) for p in (left / 'checkpoints/cb').iterdir())
    assert 3 <= at < 12 and not (left / 'results.json').exists()
    for machine in room.glob('machine*'):
      assert not list(machine.glob('ptjax/runs/[!.]*'))
      shutil.rmtree(machine)

    first, second = start(room, address, count=2, **BRIEF)
    code, out, said = first.finish()
    assert code == 0, said
    assert f'resumed at step {at}' in out and f'{address}: results.json' in out
    assert second.finish()[:2] == (0, '')
  assert leaves(left) == leaves(room / 'shared')


def leaves(folder) -> list:
  """The prompt, the answers and their scores, without the clock."""
  results = json.loads((folder / 'results.json').read_text())
  for timed in (results, results['tasks']['cb']):
    del timed['seconds']
  names = ('prompts/cb.safetensors', 'predictions/cb-dev.jsonl')
  return [*((folder / name).read_bytes() for name in names), results]


@pytest.mark.full
@pytest.mark.parametrize(
  'mesh', [{}, {'mesh.fsdp': 4}, {'mesh.fsdp': 2, 'mesh.tensor': 2}]
)
def test_four_agree_with_one(room, mesh):
  folder = f'four{len(mesh)}{mesh.get("mesh.fsdp")}'
  every = start(room, folder, count=4, **mesh)
  code, out, said = every[0].finish()
  assert code == 0 and 'results.json' in out, said
  assert [other.finish()[:2] for other in every[1:]] == [(0, '')] * 3
  check_same(room / folder, room / 'one')


def test_processes_that_were_told_different_things_say_so(room):
  own = ({}, {'optimizer.lr': 0.1})
  first, second = start(room, 'differ', count=2, own=own)
  code, out, said = first.finish()
  assert code == 2 and out.count('\n') <= 1, said
  assert re.search(
    'process 0 has hash [0-9a-f]{16}, that of process 1 has [0-9a-f]{16}; '
    'they differ in optimizer.lr$',
    said.strip(),
  )
  assert second.finish()[:2] == (2, '')
  assert not (room / 'differ').exists()


def start_alone(room, *, process):
  """One of two, whose other never comes."""
  settings = {
    'coordinator': f'127.0.0.1:{free_port()}',
    'processes': 2,
    'process': process,
    'timeout': 2,
  }
  told = {f'distributed.{key}': value for key, value in settings.items()}
  (alone,) = start(room, 'alone', count=1, **told)
  return alone


def test_a_coordinator_that_is_not_there_is_named(room):
  alone = start_alone(room, process=1)
  code, _, said = alone.finish()
  assert code == 2 and said.count('\n') == 1
  assert 'process 1 of 2 found no coordinator at 127.0.0.1:' in said
  assert not (room / 'alone').exists()


def test_a_process_whose_others_do_not_come_says_so(room):
  alone = start_alone(room, process=0)
  code, _, said = alone.finish()
  assert code == 2 and 'waited distributed.timeout=2 s' in said
  assert 'start all 2' in said


@pytest.mark.parametrize(
  'said,sentence',
  [
    ({'coordinator': 'here'}, "coordinator='here' must be HOST:PORT"),
    ({'coordinator': 'here:1', 'process': 0}, 'processes=0 and .*process=0'),
    (
      {'coordinator': 'here:1', 'processes': 2, 'process': 2},
      'processes=2 and distributed.process=2: .* from 0',
    ),
  ],
)
def test_what_cannot_be_a_process_is_refused(said, sentence, monkeypatch):
  for name in ('COORDINATOR_ADDRESS', 'NUM_PROCESSES', 'PROCESS_ID'):
    monkeypatch.delenv(f'JAX_{name}', raising=False)
  values = {f'distributed.{key}': value for key, value in said.items()}
  c = config_lib.update(config_lib.default(), values)
  with pytest.raises(UserError, match=sentence):
    processes.start(c.distributed)


def test_one_process_is_alone():
  assert processes.first() and not processes.several()
  assert processes.failed_alike() and not processes.asked_to_stop(1)
  processes.wait('nobody')
  processes.agree({'a': 1})
