"""What a run leaves behind, and how that survives its end."""

import importlib
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from ptjax import writer
from ptjax.config import UserError
from ptjax.writer import Writer

ROOT = pathlib.Path(__file__).resolve().parents[1]


def lines(folder: pathlib.Path) -> list[dict]:
  text = (folder / 'metrics.jsonl').read_text()
  assert not text or text.endswith('\n')

  def refuse(word):
    pytest.fail(f'{word} is no JSON')

  return [json.loads(s, parse_constant=refuse) for s in text.splitlines()]


def steps(folder: pathlib.Path, task: str) -> list[int]:
  found = [line for line in lines(folder) if line['task'] == task]
  return [line['step'] for line in found if 'step' in line]


def plain(folder: pathlib.Path) -> Writer:
  return Writer(folder, tensorboard=False, quiet=True)


def test_a_line_an_event(tmp_path):
  with plain(tmp_path) as log:
    log.event('health', {'majority': 50.0, 'sizes': {'train': 9}}, task='cb')
    log.scalars(7, {'loss': 0.5, 'dev/score': 81}, task='cb')
    first, second = lines(tmp_path)  # already there, nothing waits for close
  assert first.pop('time') <= second.pop('time')
  assert first == {
    **{'event': 'health', 'task': 'cb'},
    **{'majority': 50.0, 'sizes': {'train': 9}},
  }
  assert second == {
    **{'event': 'scalars', 'task': 'cb', 'step': 7},
    **{'loss': 0.5, 'dev/score': 81},
  }


def test_numbers_of_any_kind_are_valid_json(tmp_path):
  with plain(tmp_path) as log:
    values = {
      'nan': float('nan'),
      'inf': np.float32('inf'),
      'jax': jnp.float32(0.25),
      'numpy': np.int64(3),
      'inside': [1.5, {'x': float('-inf')}],
    }
    log.scalars(1, values, task='cb')
  (line,) = lines(tmp_path)
  assert line['nan'] is None and line['inf'] is None
  assert (line['jax'], line['numpy']) == (0.25, 3)
  assert line['inside'] == [1.5, {'x': None}]


def test_resuming_drops_what_comes_again(tmp_path):
  with plain(tmp_path) as log:
    for task in ('cb', 'rte'):
      log.event('health', {'attempt': 1}, task=task)
      for step in (10, 20, 30):
        log.scalars(step, {'loss': 1.0}, task=task)
  with plain(tmp_path) as log:
    log.resume('cb', step=20)
    log.scalars(25, {'loss': 1.0}, task='cb')
  assert steps(tmp_path, 'cb') == [10, 20, 25]
  assert steps(tmp_path, 'rte') == [10, 20, 30]
  assert sum(line['event'] == 'health' for line in lines(tmp_path)) == 2


def test_an_event_that_came_again_counts_once(tmp_path):
  for attempt in (1, 2):
    with plain(tmp_path) as log:
      log.event('health', {'attempt': attempt}, task='cb')
      log.event('end', {}, task='cb')
      log.event('health', {'attempt': attempt}, task='rte')
      log.resume('cb', step=0)
  found = [(s['task'], s['event'], s.get('attempt')) for s in lines(tmp_path)]
  assert found == [
    ('rte', 'health', 1),
    ('cb', 'health', 2),
    ('cb', 'end', None),
    ('rte', 'health', 2),
  ]


def test_torn_lines_are_dropped(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  with plain(tmp_path) as log:
    log.scalars(1, {'loss': 1.0}, task='cb')
  whole = path.read_bytes()
  for torn in (b'{"event": "sca', b'{"event": "scalars"}', b'\xff\x00', b'3\n'):
    path.write_bytes(whole + torn)
    with plain(tmp_path) as log:
      log.scalars(2, {'loss': 1.0}, task='cb')
    assert steps(tmp_path, 'cb') == [1, 2], torn
  # In the middle, too: a disk that was full for a while.
  path.write_bytes(whole[:9] + b'\n' + whole)
  plain(tmp_path).close()
  assert path.read_bytes() == whole


def test_a_full_disk_is_an_error(tmp_path):
  if not os.path.exists('/dev/full'):
    pytest.skip('no /dev/full on this machine')
  (tmp_path / 'metrics.jsonl').symlink_to('/dev/full')
  with pytest.raises(OSError):
    writer._Lines.append(_on_full(tmp_path), {'event': 'e'}, {})


def _on_full(folder: pathlib.Path) -> writer._Lines:
  found = object.__new__(writer._Lines)
  found._path = folder / 'metrics.jsonl'
  found._file = open('/dev/full', 'ab', buffering=0)
  return found


def test_a_killed_process_leaves_whole_lines(tmp_path):
  code = f"""if True:
    import itertools, pathlib
    from ptjax.writer import Writer
    log = Writer(pathlib.Path({str(tmp_path)!r}), tensorboard=False)
    for step in itertools.count(1):
      log.scalars(step, {{'loss': 1.0}}, task='cb')
      if step == 50:
        print('go', flush=True)"""
  env = {**os.environ, 'PYTHONPATH': str(ROOT)}
  process = subprocess.Popen(
    [sys.executable, '-c', code], env=env, stdout=subprocess.PIPE
  )
  process.stdout.readline()
  process.send_signal(signal.SIGKILL)
  process.wait()
  process.stdout.close()
  plain(tmp_path).close()
  found = steps(tmp_path, 'cb')
  assert len(found) >= 50 and found == list(range(1, len(found) + 1))


def board(folder: pathlib.Path) -> list:
  """The events of a TensorBoard run, by its record format."""
  from tensorboardX.proto import event_pb2

  out = []
  for path in sorted(folder.iterdir()):
    data = path.read_bytes()
    while data:
      (size,) = struct.unpack('<Q', data[:8])
      out.append(event_pb2.Event.FromString(data[12 : 12 + size]))
      data = data[16 + size :]
  return out


def test_tensorboard(tmp_path):
  with Writer(tmp_path, quiet=True) as log:
    log.scalars(3, {'loss': 0.5, 'dev/score': np.float32(80)}, task='cb')
    log.scalars(3, {'loss': 1.5}, task='rte')
  with Writer(tmp_path, quiet=True) as log:
    log.resume('cb', step=2)
    log.scalars(3, {'loss': 0.25}, task='cb')
  events = board(tmp_path / 'tensorboard' / 'cb')
  found = [
    (e.step, v.tag, v.simple_value) for e in events for v in e.summary.value
  ]
  assert found == [(3, 'loss', 0.5), (3, 'dev/score', 80), (3, 'loss', 0.25)]
  # TensorBoard forgets what was before from this step on.
  assert [e.step for e in events if e.session_log.status] == [3]
  assert len(board(tmp_path / 'tensorboard' / 'rte')) == 2


def test_no_tensorboard_if_not_wanted(tmp_path):
  with plain(tmp_path) as log:
    log.resume('cb', step=0)
    log.scalars(3, {'loss': 0.5}, task='cb')
  assert os.listdir(tmp_path) == ['metrics.jsonl']


def test_wandb_that_is_not_installed(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(UserError, match='wandb=mine needs.*pip install wandb'):
    Writer(tmp_path, wandb='mine')
  plain(tmp_path).close()


def test_wandb(tmp_path, monkeypatch):
  calls = []

  class Run:
    def __getattr__(self, name):
      return lambda *args, **kwargs: calls.append((name, args, kwargs))

  def init(**kwargs):
    calls.append(('init', (), kwargs))
    return Run()

  monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(init=init))
  for _ in range(2):
    with Writer(tmp_path, wandb='mine', tensorboard=False) as log:
      log.scalars(3, {'loss': 0.5}, task='cb')
      log.scalars(4, {'loss': 0.25}, task='cb')
  names = [name for name, *_ in calls]
  once = ['init', 'define_metric', 'define_metric', 'log', 'log', 'finish']
  assert names == once * 2
  init_, _, axis, first, *_ = calls
  assert init_[2]['project'] == 'mine' and init_[2]['resume'] == 'allow'
  assert init_ == calls[6]  # the same run goes on
  assert axis[1:] == (('cb/*',), {'step_metric': 'cb/step'})
  assert first[1] == ({'cb/step': 3, 'cb/loss': 0.5},)


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  with Writer(None, wandb='mine') as log:
    log.resume('cb', step=3)
    log.event('health', {}, task='cb')
    log.scalars(3, {'loss': 0.5}, task='cb')
    log.say('loading')
  assert not os.listdir(tmp_path)
  assert capsys.readouterr().out == 'loading\n'


def test_quiet(tmp_path, capsys):
  with Writer(None, quiet=True) as log:
    log.say('loading')
    with log.progress('cb', total=1) as bar:
      bar.update(1, loss=1)
  assert capsys.readouterr() == ('', '')


def test_nothing_heavy_is_imported_before_it_is_used():
  code = (
    'import sys, ptjax.writer; print(*filter(sys.modules.get, sys.modules))'
  )
  env = {**os.environ, 'PYTHONPATH': str(ROOT)}
  done = subprocess.run(
    [sys.executable, '-c', code], env=env, capture_output=True, text=True
  )
  assert done.returncode == 0
  assert not {'jax', 'tensorboardX', 'wandb'} & set(done.stdout.split())
  importlib.import_module('tensorboardX')


def test_table():
  text = writer.table(
    [
      ('task', 'accuracy', 'steps', 'note'),
      ('boolq', 71.25, 400, 'x'),
      ('cb', None, 50, ''),
    ]
  )
  assert text.splitlines() == [
    'task   accuracy  steps  note',
    '-----  --------  -----  ----',
    'boolq      71.2    400  x',
    'cb            –     50',
  ]
  assert writer.table([('task', 'n')]) == 'task  n\n----  -'
