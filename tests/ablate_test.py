"""Several values of one setting: which runs, what is told of them."""

import json

import pytest
import tiny

from ptjax import ablate, train
from ptjax import config as config_lib
from ptjax.config import UserError


def config(key, values, **changes):
  return config_lib.update(
    config_lib.default(),
    {'ablation.key': key, 'ablation.over': values, **changes},
  )


def two(key, values, inner_key, inner_values):
  changes = {
    'ablation.inner_key': inner_key,
    'ablation.inner_over': inner_values,
  }
  return config(key, values, **changes)


def test_each_value_is_set_in_the_type_of_its_key():
  runs = ablate.settings(config('method.length', (1, 20)))
  assert [c.method.length for c in runs.values()] == [1, 20]
  assert all(not c.ablation.key for c in runs.values())
  runs = ablate.settings(config('model', ('a/b/model', 'a/c/model')))
  assert [c.model for c in runs.values()] == ['a/b/model', 'a/c/model']
  assert list(runs) == [('a/b/model',), ('a/c/model',)]


def test_of_two_keys_each_value_meets_each():
  runs = ablate.settings(two('model', ('a', 'b'), 'method.length', (8, 100)))
  assert list(runs) == [('a', '8'), ('a', '100'), ('b', '8'), ('b', '100')]
  for (model, length), c in runs.items():
    assert (c.model, c.method.length) == (model, int(length))
    assert not c.ablation.key and not c.ablation.inner_key


@pytest.mark.parametrize(
  'inner_key, inner, sentence',
  [
    ('seed', (), 'ablation.inner_over is empty'),
    ('seed', (1, 1), 'ablation.inner_over=.* would share a folder'),
    ('model', ('b',), 'inner_key=model is the first key too'),
  ],
)
def test_a_second_key_has_values_of_its_own(inner_key, inner, sentence):
  with pytest.raises(UserError, match=sentence):
    ablate.settings(two('model', ('a',), inner_key, inner))


def test_a_second_key_alone_is_refused():
  c = config('', ())
  c.ablation.inner_key, c.ablation.inner_over = 'seed', (1, 2)
  with pytest.raises(UserError, match='inner_key=seed is a second key'):
    train.check(c)


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


def test_a_row_a_run_and_a_line_a_first_value(tmp_path):
  def out(score):
    score = {'average': score, 'best': score, 'ensemble': score}
    return {'score': score, 'tasks': {'t': {'score': score}}}

  keys = ('model', 'method.length')
  found = {('m/a', '8'): out(1.0), ('m/a', '100'): out(2.0)}
  found[('m/b', '8')] = out(3.0)
  assert ablate.table(keys, found) == [
    ['model', 'method.length', 't', 'score'],
    ['m/a', '8', '1.0', '1.0'],
    ['m/a', '100', '2.0', '2.0'],
    ['m/b', '8', '3.0', '3.0'],
  ]
  left = ablate._left(keys, found)
  assert left['key'] == 'model' and left['inner_key'] == 'method.length'
  assert left['values']['m/a']['100']['score']['average'] == 2.0
  assert list(left['values']) == ['m/a', 'm/b']
  pytest.importorskip('matplotlib')
  assert ablate.draw(keys, found, tmp_path / 'a.png') == 'a.png'
  assert (tmp_path / 'a.png').stat().st_size > 1000


def test_a_run_each_and_a_table(tmp_path, call):
  tiny.model_folder(tmp_path / 'model')
  tiny.data_folder(tmp_path / 'data', rows=8)
  changes = {
    **tiny.SHORT,
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


def test_two_keys_of_a_run(tmp_path, call):
  tiny.model_folder(tmp_path / 'model')
  tiny.data_folder(tmp_path / 'data', rows=8)
  changes = {
    **tiny.SHORT,
    'ablation.key': 'seed',
    'ablation.over': '(1,)',
    'ablation.inner_key': 'method.length',
    'ablation.inner_over': '(2,3)',
  }
  words = tiny.words(tmp_path, **changes)
  code, out, said = call(
    f'--config=configs/superglue.py:{words}', f'--workdir={tmp_path / "w"}'
  )
  assert code == 0, said
  left = json.loads((tmp_path / 'w/ablation.json').read_text())
  for length in ('2', '3'):
    folder = tmp_path / 'w/1' / length
    results = json.loads((folder / 'results.json').read_text())
    assert results['method']['parameters'] == int(length) * 24
    assert json.loads((folder / 'config.json').read_text())['seed'] == 1
    assert left['values']['1'][length]['score'] == results['score']
  assert (tmp_path / 'w/ablation.txt').read_text() in out


def test_labels_of_lines_that_end_together_stand_apart():
  found = ablate._apart(
    {'a': 99.2, 'b': 94.0, 'c': 99.2, 'd': 99.21}, share=0.1
  )
  assert found['b'] == 94.0 and found['a'] == 99.2
  gap = 0.1 * (99.21 - 94.0)
  assert found['c'] == pytest.approx(99.2 + gap)
  assert found['d'] == pytest.approx(99.2 + 2 * gap)
