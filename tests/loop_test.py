"""What surrounds a step: the file of the best prompt.

That a stopped or killed run goes on to the same bits is in run_test.
"""

import types

import numpy as np

from ptjax import config as config_lib
from ptjax import loop, population, tree
from ptjax.export import names


def test_a_prompt_that_was_held_frozen_is_written_with_what_trained(tmp_path):
  """Else `tune` of the model alone would leave a file nobody can use."""
  rows = np.ones((3, 4), np.float32)
  run = types.SimpleNamespace(
    parts=types.SimpleNamespace(
      loaded=types.SimpleNamespace(name='m', fingerprint='f'),
      members=(population.Member(0, 0.3, 'uniform'),),
    ),
    workdir=tmp_path,
    name='cb',
    config=config_lib.default(),
    task=types.SimpleNamespace(name='superglue/cb', init_words=('no',)),
    frozen={'model': {'head': rows}, 'prompt': {'encoder': rows}},
    failed={},
    state=types.SimpleNamespace(
      best={'model': {'norm': rows[:1]}}, best_step=[3], best_score=[50.0]
    ),
  )
  run._members = lambda: loop.TaskRun._members(run)
  loop.TaskRun._write_prompts(run)
  (found,) = names.find(str(tmp_path / 'prompts/cb.safetensors'))
  record = found.record
  assert set(tree.flatten(found.own)) == {'prompt/encoder', 'model/norm'}
  assert record['step'] == 3 and record['dev_score'] == 50.0
  assert record['model'] == {'name': 'm', 'fingerprint': 'f'}
