"""A run's file is without what only training needed, and says the same."""

import json

import pytest
import safetensors.numpy
import tiny

from ptjax import api
from ptjax import config as config_lib

FULL = pytest.mark.full


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  path = tmp_path_factory.mktemp('kept')
  tiny.model_folder(path / 'model')
  tiny.data_folder(path / 'data', rows=8)
  return path


@pytest.mark.parametrize(
  'method,names',
  [
    pytest.param(
      {'name': 'prefix_tuning', 'hidden': 4, 'length': 3},
      {
        f'prefix_tuning/{scope}/prefix_{part}'
        for scope in (
          'encoder/layers/attention',
          'decoder/layers/self_attention',
          'decoder/layers/cross_attention',
        )
        for part in ('key', 'value')
      },
      id='prefix_tuning',
    ),
    pytest.param(
      {'name': 'p_tuning', 'template': '{2} the cat {input} {1}'},
      {'prompt/encoder'},
      id='p_tuning',
      marks=FULL,
    ),
  ],
)
def test_a_runs_file_says_what_the_run_said(room, method, names, tmp_path):
  c = config_lib.default()
  c.model, c.data = str(room / 'model'), str(room / 'data')
  c.task, c.eval.rank, c.eval.untuned = 'cb', False, 2
  c.method.update({'init': 'uniform', **method})
  c.train.steps, c.train.batch_size, c.tensorboard = 2, 4, False
  c.optimizer.lr = 0.3
  out = api.train(c, folder=str(tmp_path / 'run'))
  held = safetensors.numpy.load_file(tmp_path / 'run/prompts/cb.safetensors')
  assert set(held) == names
  # What was trained is told, not what is held.
  assert out['method']['parameters'] > sum(x.size for x in held.values())
  lines = (tmp_path / 'run/predictions/cb-dev.jsonl').read_text().splitlines()
  said = [json.loads(line) for line in lines]
  model = api.load(str(room / 'model'), prompt=str(tmp_path / 'run'))
  model.server.parts.config.max_length = 4
  found = api.generate(model, [row['inputs'] for row in said])
  alone = api.generate(
    model, [row['inputs'] for row in said], prompts=[''] * len(said)
  )
  expected = [row['generate'] for row in said]
  pairs = zip(found, expected)
  assert all(a.startswith(b) or b.startswith(a) for a, b in pairs)
  assert any(expected) and alone != found
