"""What is said of a task's training before its first update."""

import dataclasses
import types

import tiny

from ptjax import assemble, health, relay
from ptjax import config as config_lib

TRAIN = types.SimpleNamespace(buckets=(12, 24), target_length=4)


def begun(folder, **changes):
  tiny.model_folder(folder)
  told = {'model': str(folder), 'method.length': 5, 'method.init': 'uniform'}
  told |= changes
  made = assemble.parts(config_lib.update(config_lib.default(), told))
  own, _ = made.init()
  return made, made.state(own)


def test_that_layers_keep_less_is_told(tmp_path):
  made, state = begun(tmp_path / 't5')
  assert health.keeps(made, state, TRAIN) == ''
  small = dataclasses.replace(made, room=0)
  said = health.keeps(small, state, TRAIN)
  assert said.startswith('inputs of 24 pieces train with remat=full, for want')
  made, state = begun(tmp_path / 't5', remat='full')
  assert health.keeps(made, state, TRAIN) == ''  # it was asked for


def test_all_processes_have_the_room_of_the_first(tmp_path, monkeypatch):
  """Or each would compile another program, and wait for the others' sums."""
  monkeypatch.setattr(relay, 'of_first', lambda make: 7)
  made, _ = begun(tmp_path / 't5')
  assert made.room == 7
