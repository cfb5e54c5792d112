"""Formats and scores of SuperGLUE's tasks on rows made for the purpose.

The expected texts are those of T5's preprocessors on the same fields.
"""

import dataclasses
import json

import pytest

from ptjax.config import UserError
from ptjax.tasks import base, superglue

ROWS = {
  'boolq': {'question': 'is it', 'passage': 'It  is.', 'label': True, 'idx': 3},
  'cb': {'premise': 'P', 'hypothesis': 'H', 'label': 'neutral', 'idx': 3},
  'copa': {
    'premise': 'P.',
    'choice1': 'A.',
    'choice2': 'B.',
    'question': 'effect',
    'label': 1,
    'idx': 3,
  },
  'rte': {'premise': 'P', 'hypothesis': 'H', 'label': 'entailment', 'idx': 3},
  'wic': {
    'word': 'w',
    'sentence1': 'One.',
    'sentence2': 'Two.',
    'start1': 0,
    'label': False,
    'idx': 3,
  },
  'axb': {
    'sentence1': 'P',
    'sentence2': 'H',
    'label': 'not_entailment',
    'idx': '3',
    'logic': 'Negation',
  },
  'axg': {
    'premise': 'P',
    'hypothesis': 'H',
    'label': 'not_entailment',
    'pair_id': 551646,
    'idx': 3,
  },
}
TEXTS = {
  'boolq': ('boolq passage: It  is. question: is it', 'True'),
  'cb': ('cb hypothesis: H premise: P', 'neutral'),
  'copa': (
    'copa choice1: A. choice2: B. premise: P. question: effect',
    'choice2',
  ),
  'rte': ('rte hypothesis: H premise: P', 'entailment'),
  'wic': ('wic sentence1: One. sentence2: Two. word: w', 'False'),
  'axb': ('rte hypothesis: H premise: P', 'not_entailment'),
  'axg': ('rte hypothesis: H premise: P', 'not_entailment'),
}


def one(name, row, *, prefix=True, split='dev'):
  task = base.load(f'superglue/{name}', prefix=prefix)
  (example,) = task.examples([row], split)
  return task, example


@pytest.mark.parametrize('name', ROWS)
def test_text_with_the_task_word_and_without(name):
  task, example = one(name, ROWS[name])
  assert (example.inputs, example.targets) == TEXTS[name]
  assert example.choices == task.labels == task.init_words
  _, bare = one(name, ROWS[name], prefix=False)
  # The paper's form: all up to the first space is dropped.
  assert bare.inputs == TEXTS[name][0].partition(' ')[2]


@pytest.mark.parametrize('name', ROWS)
def test_the_hub_s_integer_labels_mean_the_same(name):
  task, example = one(name, ROWS[name])
  index = task.labels.index(example.targets)
  _, flat = one(name, {**ROWS[name], 'label': index})
  assert flat == example


@pytest.mark.parametrize('name', ROWS)
@pytest.mark.parametrize('label', [-1, None, 'absent'])
def test_a_row_without_a_label(name, label):
  row = {**ROWS[name], 'label': label}
  if label == 'absent':
    del row['label']
  task, example = one(name, row, split='test')
  assert example.targets == '' and not task.labelled([example])
  with pytest.raises(UserError, match='have no labels'):
    task.metrics(['x'], [example])
  for split in ('train', 'dev'):
    with pytest.raises(UserError, match=f'row 0 of {split} has no label'):
      task.examples([row], split)


def test_a_label_that_is_none():
  with pytest.raises(UserError, match="'maybe'; it can be False, True"):
    one('boolq', {**ROWS['boolq'], 'label': 'maybe'})
  with pytest.raises(UserError, match='has the label 2'):
    one('rte', {**ROWS['rte'], 'label': 2})


def test_a_misnamed_field_names_the_nearest():
  row = {**ROWS['rte']}
  row['hypotesis'] = row.pop('hypothesis')
  with pytest.raises(UserError) as error:
    one('rte', row)
  assert "no field 'hypothesis', did you mean 'hypotesis'?" in str(error.value)
  assert 'premise, label, idx' in str(error.value)


def labelled(name, labels):
  """Examples with these label indices."""
  task = base.load(name)
  rows = [
    {**ROWS[name], 'label': label, 'idx': i} for i, label in enumerate(labels)
  ]
  return task, task.examples(rows, 'dev')


def test_accuracy_and_invalid():
  task, examples = labelled('boolq', [0, 1, 1, 0])
  said = ['False', 'True', 'true', '']
  assert task.metrics(said, examples) == {'accuracy': 50}
  assert task.invalid(said, examples) == 50


def test_cb_has_two_metrics_and_their_mean_is_its_score():
  task, examples = labelled('cb', [0, 1, 1, 2])
  words = [task.labels[i] for i in (0, 0, 2, 2)]
  found = task.metrics(words, examples)
  assert list(found) == ['mean_3class_f1', 'accuracy']
  assert found['mean_3class_f1'] == pytest.approx(44.4444444)
  assert task.score(found) == pytest.approx((44.4444444 + 50) / 2)


def test_axb_is_scored_by_matthews():
  task, examples = labelled('axb', [0, 0, 1, 1])
  words = [task.labels[i] for i in (0, 0, 0, 1)]
  assert task.metrics(words, examples) == {
    'matthews': pytest.approx(100 / 3**0.5)
  }


def test_axg_pairs_neighbours():
  task, examples = labelled('axg', [0, 0, 1, 1])
  words = [task.labels[i] for i in (1, 1, 0, 1)]
  assert task.metrics(words, examples) == {
    'gender_parity': 50,
    'accuracy': 25,
  }


def test_majority_is_the_commonest_target():
  task, examples = labelled('rte', [1, 0, 1])
  assert task.majority(examples) == 'not_entailment'
  assert task.majority_answers(examples, examples[:2]) == 2 * ['not_entailment']


def test_names_of_tasks():
  assert base.names('superglue') == [f'superglue/{n}' for n in superglue.SUITE]
  assert base.names('rte + superglue/cb+rte') == [
    'superglue/rte',
    'superglue/cb',
  ]
  assert base.load('axg').name == 'superglue/axg'
  with pytest.raises(UserError, match="'bolq' is not known, did you mean 'boo"):
    base.names('bolq')
  with pytest.raises(UserError, match='is 8 tasks'):
    base.load('superglue')


def test_every_task_says_what_it_measures():
  for name in superglue.TASKS:
    task = base.load(name)
    assert task.metric_names and task.init_words, name
  # Static choices: they are compared and hashed.
  assert hash(base.load('rte')) == hash(base.load('rte'))
  assert base.load('rte') != base.load('rte', prefix=True)


def test_examples_are_text_only():
  _, example = one('rte', ROWS['rte'])
  assert json.dumps(dataclasses.asdict(example))
