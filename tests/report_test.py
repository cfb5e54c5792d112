"""results.json in its shape, and the words around it."""

import json

import numpy as np
import pytest

from ptjax import report, writer
from ptjax.data.batch import Encoded
from ptjax.data.split import Split
from ptjax.tasks import base
from ptjax.tasks.base import Example

ROW = Encoded(np.array([3, 1], np.int32), np.array([4, 1], np.int32))


def split(name: str, *, size: int = 3, cut: int = 0) -> Split:
  example = Example('a', 'entailment', ('entailment',), {'label': 0})
  return Split(name, [example] * size, [ROW] * size, (8, 16), 4, cut)


def entry(**values):
  task = base.load('cb')
  metrics = {'mean_3class_f1': 40.0, 'accuracy': 60.0, **values}
  found = {'metrics': metrics, 'score': 50.0, 'invalid': 33.33333}
  other = {'metrics': {'accuracy': 70.0}, 'score': 70.0, 'invalid': 0.0}
  return report.entry(
    task,
    {'generate': alone(found), 'rank': alone(other)},
    by='generate',
    split=split('dev', cut=2),
    members=[{'step': 150, 'dev_score': 50.0}],
  )


def alone(scores):
  return {'members': [scores], 'ensemble': scores, 'agreement': 100.0}


def one(value: float):
  return report.spread([value], 0, value)


def test_an_entry_says_what_it_is_a_score_of():
  found = entry()
  assert found['metrics']['accuracy'] == {
    'average': 60.0,
    'best': 60.0,
    'ensemble': 60.0,
    'members': [60.0],
  }
  assert found['score']['average'] == 50.0 and found['by'] == 'generate'
  assert found['rank']['accuracy']['average'] == 70.0
  assert 'generate' not in found
  assert (found['examples'], found['steps'], found['split']) == (
    3,
    [150],
    'dev',
  )
  assert found['selected_on'] == 'dev' and found['cut'] == 2
  assert found['invalid'] == 33.3333


def results(tasks):
  return report.results(
    tasks,
    model={'name': 'm', 'fingerprint': 'f', 'parameters': 9},
    method={'name': 'soft_prompt', 'parameters': 3},
  )


def test_the_score_is_the_mean_over_tasks_not_over_metrics():
  first, two = entry(), entry()
  two['score'] = one(90.0)
  two['metrics'] = {'accuracy': one(90.0)}
  first['seconds'], two['seconds'] = 1.25, 2.0
  found = results({'cb': first, 'rte': two})
  assert found['score'] == {'average': 70.0, 'best': 70.0, 'ensemble': 70.0}
  assert found['seconds'] == 3.2
  assert list(found) == ['tasks', 'score', 'model', 'method', 'seconds']


def test_what_is_not_finite_is_null_and_a_dash():
  bad = entry(accuracy=float('nan'))
  bad['score'] = one(float('inf'))
  found = results({'cb': bad, 'rte': entry()})
  text = json.dumps(found, allow_nan=False)
  assert json.loads(text)['score']['average'] is None
  table = writer.table(report.rows(found))
  assert 'accuracy –' in table and 'score –' in table


def test_the_table_has_a_line_a_task_and_one_for_all():
  found = results({'cb': entry(), 'rte': entry()})
  rows = report.rows(found)
  assert [row[0] for row in rows] == ['task', 'cb', 'rte', 'all']
  assert rows[1][1] == 'mean_3class_f1 40.0, accuracy 60.0 (dev)'
  assert rows[1][2] == '70.0' and rows[3][1] == 'score 50.0'
  assert len(report.rows(results({'cb': entry()}))) == 2
  assert {len(row) for row in rows} == {7}


@pytest.mark.parametrize('cut', [0, 2])
def test_the_health_counts_what_was_cut(cut):
  found = {
    'tuned': 480,
    'frozen': 800_000,
    'majority': 50.0,
    'untuned_rank': 41.6,
    'loss': [3.2],
    'grad_norm': [0.5],
  }
  said = report.health(
    'cb', found, train=split('train', size=9, cut=cut), dev=split('dev')
  )
  assert '9 training and 3 dev examples' in said and '8, 16 pieces' in said
  assert 'majority class 50.0; untuned model: rank 41.6' in said
  assert ('2 inputs were longer' in said) == bool(cut)


def test_five_members_are_the_papers_table():
  """Average ± standard deviation of the sample, best by dev, ensemble."""
  dev = [50.0, 70.0, 60.0]
  each = [
    {'metrics': {'accuracy': a}, 'score': a, 'invalid': 0.0}
    for a in (40.0, 45.0, 80.0)
  ]
  together = {'metrics': {'accuracy': 85.0}, 'score': 85.0, 'invalid': 5.0}
  scored = {'members': each, 'ensemble': together, 'agreement': 75.0}
  members = [
    {'seed': i, 'lr': 0.3, 'init': 'uniform', 'step': 10, 'dev_score': d}
    for i, d in enumerate(dev)
  ]
  arguments = {'by': 'generate', 'split': split('test')}
  found = report.entry(
    base.load('rte'), {'generate': scored}, members=members, **arguments
  )
  assert found['metrics']['accuracy'] == {
    'average': 55.0,
    'best': 45.0,  # chosen on dev, not by what is reported
    'ensemble': 85.0,
    'members': [40.0, 45.0, 80.0],
    'std': round(float(np.std([40, 45, 80], ddof=1)), 4),
  }
  assert (found['best_member'], found['best_by']) == (1, 'dev')
  assert found['members'][2]['score'] == 80.0 and found['invalid'] == 5.0
  whole = results({'rte': found, 'cb': found})
  assert whole['score']['members'] == [40.0, 45.0, 80.0]
  rows = report.rows(whole)
  assert rows[1][:6] == [
    'rte', 'accuracy (test)', '55.0 ± 21.8', '45.0', '85.0', '75.0'
  ]  # fmt: skip
  assert rows[-1][:5] == ['all', 'score', '55.0 ± 21.8', '45.0', '85.0']
  table = report.member_rows(found['members'], ('lr',))
  assert [row[0] for row in table] == ['member', '1', '2', '0']
  # Prompts of which nobody knows a dev score: the best is that of the report.
  found = report.entry(
    base.load('rte'), {'generate': scored}, members=[{}] * 3, **arguments
  )
  assert (found['best_member'], found['best_by']) == (2, 'test')
  assert 'selected_on' not in found


def test_the_papers_numbers_stand_beside_a_run_of_its_model():
  """And beside no other."""
  tasks = {'cb': entry(), 'rte': entry()}
  tasks['rte']['metrics'] = {'accuracy': one(90.0)}
  found = results(tasks)
  assert 'paper' not in report.rows(found)[0]
  found['model']['parameters'] = 11_135_332_352
  rows = report.rows(found)
  assert [row[-1] for row in rows] == ['paper', '99.0, 99.3', '92.6', '']
  assert {len(row) for row in rows} == {8}
  scored = entry()['metrics']['accuracy'] | {'members': [60.0, 60.0]}
  tasks['rte']['metrics'] = {'accuracy': scored}
  tasks['rte']['score'] = scored
  rows = report.rows(found)
  assert rows[1][-1] == '99.0, 100.0, 100.0' and rows[3][0] == 'rte'
  assert rows[3][-1] == '92.6, 93.5, 93.5' and rows[4][-1] == ''


def test_shapes_that_came_late_are_told_by_their_steps():
  early = report.compiled('cb', [1, 3], [])
  assert '2 batch shapes, none after the first epoch' in early
  assert 'at steps 90, 95' in report.compiled('cb', [1, 90, 95], [90, 95])
