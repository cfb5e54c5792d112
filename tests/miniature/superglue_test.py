"""The miniature's rows: schemas, labels, splits, and no single cue."""

import collections
import re

import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.miniature import superglue

FIELDS = {
  'boolq': {'question', 'passage', 'label', 'idx'},
  'cb': {'premise', 'hypothesis', 'label', 'idx'},
  'copa': {'premise', 'choice1', 'choice2', 'question', 'label', 'idx'},
  'multirc': {'passage', 'idx'},
  'record': {'passage', 'qas', 'idx'},
  'rte': {'premise', 'hypothesis', 'label', 'idx'},
  'wic': {
    'word', 'sentence1', 'sentence2', 'label', 'idx',
    'start1', 'end1', 'start2', 'end2',
  },
  'wsc': {'text', 'target', 'label', 'idx'},
}  # fmt: skip


def passages(task: str, row: dict) -> list[str]:
  """What a row reads; no other split may have it."""
  if task in ('multirc', 'record'):
    text = row['passage']['text']
    return [text.replace('<br>', ' ').replace('\n@highlight\n', ' ')]
  if task == 'wic':
    return [row['sentence1'], row['sentence2']]
  return [row[{'boolq': 'passage', 'wsc': 'text'}.get(task, 'premise')]]


@pytest.mark.parametrize('task', FIELDS)
def test_rows_have_the_original_fields(task):
  for split in superglue.SIZES:
    for row in superglue.rows(task, split, size=50):
      assert set(row) == FIELDS[task]


def test_rows_are_the_same_at_every_call():
  assert superglue.rows('rte', 'dev') == superglue.rows('rte', 'dev')
  other = superglue.rows('rte', 'dev', seed=1)
  assert superglue.rows('rte', 'dev') != other


def test_splits_share_no_passage():
  owner: dict[str, str] = {}
  for task in FIELDS:
    for split in superglue.SIZES:
      for row in superglue.rows(task, split):
        for text in passages(task, row):
          assert owner.setdefault(text, split) == split, text
  assert len(owner) > 5000


@pytest.mark.parametrize('task', ('boolq', 'copa', 'rte', 'wic', 'wsc'))
def test_two_labels_are_about_even(task):
  labels = [row['label'] for row in superglue.rows(task, 'train')]
  shares = np.array(list(collections.Counter(labels).values())) / len(labels)
  assert len(shares) == 2 and shares.max() < 0.55


def test_the_third_class_of_cb_is_small():
  labels = [row['label'] for row in superglue.rows('cb', 'train')]
  share = labels.count('neutral') / len(labels)
  assert set(labels) == set(superglue.CB_LABELS) and 0.1 < share < 0.2


def test_multirc_has_several_questions_and_several_right_answers():
  several = 0
  for row in superglue.rows('multirc', 'dev'):
    questions = row['passage']['questions']
    assert len(questions) == 2
    for question in questions:
      right = [a['label'] for a in question['answers']]
      assert 0 < sum(right) < len(right)
      several += sum(right) > 1
  assert several > 20


def test_record_spans_are_their_text_and_some_queries_have_two_answers():
  several = 0
  for row in superglue.rows('record', 'dev'):
    text = row['passage']['text']
    entities = [
      text[e['start'] : e['end'] + 1] for e in row['passage']['entities']
    ]
    for qa in row['qas']:
      assert qa['query'].startswith('@placeholder')
      for answer in qa['answers']:
        assert text[answer['start'] : answer['end'] + 1] == answer['text']
        assert answer['text'] in entities
      several += len(qa['answers']) > 1
  assert several > 20


def test_wsc_spans_are_the_words_at_their_places():
  for row in superglue.rows('wsc', 'dev'):
    words, target = row['text'].split(' '), row['target']
    assert words[target['span2_index']] == target['span2_text']
    span = target['span1_text'].split(' ')
    start = target['span1_index']
    assert words[start : start + len(span)] == span


def test_wic_words_stand_where_said():
  for row in superglue.rows('wic', 'dev'):
    for i in '12':
      start, end = row[f'start{i}'], row[f'end{i}']
      assert row[f'sentence{i}'][start:end] == row['word']


@pytest.mark.parametrize('task', ('boolq', 'rte', 'copa', 'wic'))
def test_a_bag_of_words_is_near_the_majority(task):
  fields = {
    'boolq': ('passage', 'question'),
    'rte': ('premise', 'hypothesis'),
    'copa': ('premise', 'choice1', 'choice2'),
    'wic': ('sentence1', 'sentence2'),
  }[task]
  train, dev = superglue.rows(task, 'train'), superglue.rows(task, 'dev')
  first = train[0]['label']

  def bag(row):
    # A word of another field is another word.
    words = (
      f'{field}:{word}'
      for field in fields
      for word in re.findall(r'\w+', row[field])
    )
    return collections.Counter(words)

  index = {word: i for i, word in enumerate({w for r in train for w in bag(r)})}

  def counts(rows):
    out = np.zeros((len(rows), len(index) + 1))
    out[:, -1] = 1
    for x, row in zip(out, rows):
      for word, count in bag(row).items():
        if word in index:
          x[index[word]] = count
    return out, np.array([1 if row['label'] == first else -1 for row in rows])

  x, y = counts(train)
  weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ y)
  x, y = counts(dev)
  accuracy = np.mean(np.sign(x @ weights) == y)
  assert accuracy < max(np.mean(y == 1), np.mean(y == -1)) + 0.1


def test_unknown_names_are_refused():
  with pytest.raises(UserError, match="no task 'bolq'"):
    superglue.rows('bolq', 'train')
  with pytest.raises(UserError, match="no split 'val'"):
    superglue.rows('boolq', 'val')
