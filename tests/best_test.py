"""The file of the best prompt, and what it says of itself."""

import types

import numpy as np

from ptjax import best, population, tree
from ptjax import config as config_lib
from ptjax.export import names
from ptjax.methods import base


def test_a_prompt_that_was_held_frozen_is_written_with_what_trained(tmp_path):
  """Else `tune` of the model alone would leave a file nobody can use."""
  rows = np.ones((3, 4), np.float32)
  c = config_lib.default()
  method = base.make(c.method)
  parts = types.SimpleNamespace(
    config=c,
    tuned_model=types.SimpleNamespace(method=method),
    loaded=types.SimpleNamespace(name='m', fingerprint='f'),
    members=(population.Member(0, 0.3, 'uniform'),),
  )
  state = types.SimpleNamespace(
    best={'model': {'norm': rows[:1]}}, best_step=[3], best_score=[50.0]
  )
  best.write(
    parts,
    types.SimpleNamespace(name='superglue/cb', init_words=('no',)),
    state,
    frozen={'model': {'head': rows}, 'prompt': {'encoder': rows}},
    known=best.members(parts, state, {}),
    folder=tmp_path,
  )
  (found,) = names.find(str(tmp_path / 'cb.safetensors'))
  record = found.record
  assert set(tree.flatten(found.own)) == {'prompt/encoder', 'model/norm'}
  assert record['step'] == 3 and record['dev_score'] == 50.0
  assert record['model'] == {'name': 'm', 'fingerprint': 'f'}
