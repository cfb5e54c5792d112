"""A run's file is without what only training needed, and says the same."""

import json

import numpy as np
import pytest
import safetensors.numpy
import tiny

from ptjax import api
from ptjax import config as config_lib

pytestmark = pytest.mark.full  # runs compile for long
LABELS = ['entailment', 'contradiction', 'neutral']


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
    ),
  ],
)
def test_a_runs_file_says_what_the_run_said(room, method, names, tmp_path):
  c = config_lib.default()
  c.model, c.data = str(room / 'model'), str(room / 'data')
  c.task, c.eval.untuned = 'cb', 2
  c.method.update({'init': 'uniform', **method})
  c.train.steps, c.train.batch_size, c.tensorboard = 2, 4, False
  out = api.train(c, folder=str(tmp_path / 'run'))
  held = safetensors.numpy.load_file(tmp_path / 'run/prompts/cb.safetensors')
  assert set(held) == names
  # What was trained is told, not what is held.
  assert out['method']['parameters'] > sum(x.size for x in held.values())
  lines = (tmp_path / 'run/predictions/cb-dev.jsonl').read_text().splitlines()
  said = [json.loads(line) for line in lines]
  folder = str(room / 'model')
  run = str(tmp_path / 'run')
  model = api.load(folder, prompt=run, max_length=4)  # CB's longest label
  texts = [row['inputs'] for row in said]
  # A random model may rank one label first everywhere; its words differ.
  answers = api.generate(model, texts)
  assert answers == [row['generate'] for row in said] and len(set(answers)) > 2
  inputs = [text for text in texts for _ in LABELS]
  targets = [label for _ in said for label in LABELS]
  nats = np.reshape(api.score(model, inputs, targets), (-1, len(LABELS)))
  assert [LABELS[i] for i in nats.argmax(axis=1)] == [r['rank'] for r in said]
  bare = api.score(api.load(folder), inputs, targets)
  assert np.abs(np.ravel(nats) - bare).min() > 1e-3
