"""What surrounds a step: signals, and the file of the best prompt.

That a stopped or killed run goes on to the same bits is in run_test.
"""

import os
import signal
import threading
import types

import numpy as np

from ptjax import config as config_lib
from ptjax import loop, tree
from ptjax.export import prompt


def test_a_signal_is_noted_and_the_old_listener_comes_back():
  before = signal.getsignal(signal.SIGTERM)
  with loop.StopSignal().listen() as stop:
    assert not stop.asked
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked == 'SIGTERM'
    # A second one is not ours to hold back.
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_in_another_thread_does_not_listen():
  """Python lets only the main one; a notebook's server may use others."""
  seen = []

  def run():
    with loop.StopSignal().listen() as stop:
      seen.append(stop.asked)

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert seen == ['']


def test_a_prompt_that_was_held_frozen_is_written_with_what_trained(tmp_path):
  """Else `tune` of the model alone would leave a file nobody can use."""
  rows = np.ones((3, 4), np.float32)
  run = types.SimpleNamespace(
    parts=types.SimpleNamespace(
      loaded=types.SimpleNamespace(name='m', fingerprint='f')
    ),
    workdir=tmp_path,
    name='cb',
    config=config_lib.default(),
    task=types.SimpleNamespace(name='superglue/cb'),
    frozen={'model': {'head': rows}, 'prompt': {'encoder': rows}},
    state=types.SimpleNamespace(
      best={'model': {'norm': rows[0]}}, best_step=3, best_score=50.0
    ),
  )
  loop.TaskRun._write_prompt(run)
  found, record = prompt.read(str(tmp_path / 'prompts/cb.safetensors'))
  assert set(tree.flatten(found)) == {'prompt/encoder', 'model/norm'}
  assert record['step'] == 3 and record['dev_score'] == 50.0
  assert record['model'] == {'name': 'm', 'fingerprint': 'f'}
