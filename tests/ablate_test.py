"""Several values of one setting: which runs, what is told of them."""

import json

import pytest
import tiny

from ptjax import ablate
from ptjax import config as config_lib
from ptjax.config import UserError


def config(key, values, **changes):
  return config_lib.update(
    config_lib.default(),
    {'ablation.key': key, 'ablation.over': values, **changes},
  )


def test_each_value_is_set_in_the_type_of_its_key():
  runs = ablate.settings(config('method.length', (1, 20)))
  assert [c.method.length for c in runs.values()] == [1, 20]
  assert all(not c.ablation.key for c in runs.values())
  runs = ablate.settings(config('model', ('a/b/model', 'a/c/model')))
  assert [c.model for c in runs.values()] == ['a/b/model', 'a/c/model']


@pytest.mark.parametrize(
  'key,values,sentence',
  [
    ('method.lenght', (1,), "did you mean 'method.length'"),
    ('method.length', (), 'ablation.over is empty'),
    ('method.length', ('long',), "method.length='long' must be of the type"),
    ('model', ('a/b', 'x/a/b'), 'would share a folder'),
    ('method.length', (5, 0), 'method.length=0 must be at least 1'),
  ],
)
def test_what_no_run_can_have_is_told_before_the_first(
  tmp_path, key, values, sentence
):
  with pytest.raises(UserError, match=sentence):
    ablate.run(config(key, values), tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_a_run_each_and_a_table(tmp_path, call):
  tiny.model_folder(tmp_path / 'model')
  tiny.data_folder(tmp_path / 'data', rows=8)
  changes = {
    'task': 'cb',
    'train.steps': 2,
    'train.eval_every': 2,
    'eval.submission': False,
    'eval.untuned': 0,
    'population.seeds': 2,
    'ablation.key': 'method.length',
    'ablation.over': '(2,3)',
  }
  words = tiny.words(tmp_path, **changes)
  code, out, said = call(
    f'--config=configs/superglue.py:{words}', f'--workdir={tmp_path / "w"}'
  )
  assert code == 0, said
  left = json.loads((tmp_path / 'w/ablation.json').read_text())
  assert left['key'] == 'method.length' and list(left['values']) == ['2', '3']
  for value in ('2', '3'):
    results = json.loads((tmp_path / 'w' / value / 'results.json').read_text())
    assert results['method']['parameters'] == int(value) * 24
    score = results['tasks']['cb']['score']
    assert left['values'][value]['tasks']['cb'] == score
  table = (tmp_path / 'w/ablation.txt').read_text()
  assert table in out and table.split()[0] == 'method.length'
  pytest.importorskip('matplotlib')
  assert (tmp_path / 'w/ablation.png').stat().st_size > 1000
