"""The files of SuperGLUE's leaderboard, field by field."""

import json

import pytest

from ptjax.config import UserError
from ptjax.tasks import base, submission

INFERENCE = {'premise': 'p', 'hypothesis': 'h'}
# task -> (a test row, what the model says, what is submitted)
PLAIN = {
  'boolq': ({'passage': 'p', 'question': 'q'}, 'True', 'true'),
  'cb': (INFERENCE, 'neutral', 'neutral'),
  'copa': (
    {'premise': 'p', 'choice1': 'a', 'choice2': 'b', 'question': 'cause'},
    'choice2',
    1,
  ),
  'rte': (INFERENCE, 'not_entailment', 'not_entailment'),
  'wic': ({'sentence1': 'a', 'sentence2': 'b', 'word': 'w'}, 'False', 'false'),
  'wsc': (
    {
      'text': 'Ann saw Bo as she left .',
      'target': {
        'span1_text': 'Ann',
        'span1_index': 0,
        'span2_text': 'she',
        'span2_index': 4,
      },
    },
    'ann',
    'True',
  ),
  'axb': ({'sentence1': 'a', 'sentence2': 'b'}, 'entailment', 'entailment'),
  'axg': (INFERENCE, 'entailment', 'entailment'),
}


def lines(path):
  return [json.loads(line) for line in path.read_text('utf-8').splitlines()]


@pytest.mark.parametrize('name', PLAIN)
def test_one_line_an_example(tmp_path, name):
  row, said, submitted = PLAIN[name]
  task = base.load(name)
  # AX-b numbers its rows in quotes.
  idx = '7' if name == 'axb' else 7
  examples = task.examples([{**row, 'idx': idx}], 'test')
  path, replaced = submission.write(tmp_path, task, [said], examples=examples)
  assert path.name == f'{submission.FILES[name]}.jsonl' and not replaced
  assert lines(path) == [{'idx': 7, 'label': submitted}]


def test_an_answer_that_is_no_label_is_replaced_and_counted(tmp_path):
  task = base.load('cb')
  rows = [{**INFERENCE, 'idx': i} for i in range(3)]
  examples = task.examples(rows, 'test')
  said = ['neutral', 'dunno', '']
  path, replaced = submission.write(tmp_path, task, said, examples=examples)
  assert replaced == 2
  labels = [line['label'] for line in lines(path)]
  assert labels == ['neutral', 'entailment', 'entailment']


def test_multirc_is_nested(tmp_path):
  questions = [
    {'question': 'q', 'idx': q, 'answers': [{'text': 'a', 'idx': i} for i in a]}
    for q, a in ((4, (10, 11)), (5, (12,)))
  ]
  row = {'idx': 2, 'passage': {'text': 'p', 'questions': questions}}
  task = base.load('multirc')
  examples = task.examples([row], 'test')
  said = ['True', 'False', 'True']
  path, _ = submission.write(tmp_path, task, said, examples=examples)
  assert lines(path) == [
    {
      'idx': 2,
      'passage': {
        'questions': [
          {
            'idx': 4,
            'answers': [{'idx': 10, 'label': 1}, {'idx': 11, 'label': 0}],
          },
          {'idx': 5, 'answers': [{'idx': 12, 'label': 1}]},
        ]
      },
    }
  ]


def test_record_answers_by_query(tmp_path):
  row = {
    'idx': 1,
    'passage': {'text': 'Zoë left.', 'entities': [{'start': 0, 'end': 2}]},
    'qas': [{'query': '@placeholder', 'idx': 8}, {'query': 'x', 'idx': 9}],
  }
  task = base.load('record')
  examples = task.examples([row], 'test')
  path, _ = submission.write(tmp_path, task, ['Zoë', ' B '], examples=examples)
  assert path.name == 'ReCoRD.jsonl'
  assert lines(path) == [{'idx': 8, 'label': 'Zoë'}, {'idx': 9, 'label': 'B'}]


def test_only_superglue_has_a_leaderboard(tmp_path):
  task = base.load('custom/mine', template='{t}', target='a')
  with pytest.raises(UserError, match='no task of SuperGLUE'):
    submission.write(tmp_path, task, [], examples=[])
  assert not list(tmp_path.iterdir())


def test_real_test_splits_give_a_line_for_every_row(shared, tmp_path):
  from ptjax.data import source

  folder = str(shared / 'data/superglue')
  sizes = {'boolq': 3245, 'cb': 250, 'copa': 500, 'multirc': 166, 'wsc': 146}
  for name, size in sizes.items():
    task = base.load(name)
    rows = source.superglue(folder, name, 'test')
    examples = task.examples(rows, 'test')
    said = [task.labels[0] if task.labels else 'x'] * len(examples)
    path, replaced = submission.write(tmp_path, task, said, examples=examples)
    found = lines(path)
    assert len(found) == size == len(rows) and not replaced
    assert [line['idx'] for line in found] == [row['idx'] for row in rows]
