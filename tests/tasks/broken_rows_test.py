"""Rows whose insides are not as the task has them: a sentence, at any depth."""

import copy

import pytest

from ptjax.config import UserError
from ptjax.tasks import base

MULTIRC = {
  'idx': 0,
  'passage': {
    'text': 'p',
    'questions': [
      {'question': 'q', 'idx': 0, 'answers': [{'text': 'a', 'label': 1}]}
    ],
  },
}
MULTIRC_FLAT = {
  'paragraph': 'p',
  'question': 'q',
  'answer': 'a',
  'label': 1,
  'idx': {'paragraph': 0, 'question': 0, 'answer': 0},
}
RECORD = {
  'idx': 0,
  'passage': {'text': 'Ann left', 'entities': [{'start': 0, 'end': 2}]},
  'qas': [{'query': '@placeholder', 'answers': [{'text': 'Ann'}], 'idx': 0}],
}
RECORD_FLAT = {
  'query': '@placeholder',
  'passage': 'Ann left',
  'entities': ['Ann'],
  'answers': ['Ann'],
  'idx': {'passage': 0, 'query': 0},
}
WSC = {
  'text': 'Ann saw Bo as she left',
  'target': {
    'span1_text': 'Ann',
    'span1_index': 0,
    'span2_text': 'she',
    'span2_index': 4,
  },
  'label': 1,
}
WHOLE = {
  'multirc': (MULTIRC, MULTIRC_FLAT),
  'record': (RECORD, RECORD_FLAT),
  'wsc': (WSC,),
}
GONE = object()


def broken(row: dict, path: str, value) -> dict:
  """The row with another value at 'passage.questions.0.idx', or none."""
  row = copy.deepcopy(row)
  *scopes, last = path.split('.')
  scope = row
  for key in scopes:
    scope = scope[int(key) if key.isdecimal() else key]
  last = int(last) if last.isdecimal() else last
  if value is GONE:
    del scope[last]
  else:
    scope[last] = value
  return row


@pytest.mark.parametrize('task, row', [(t, r) for t in WHOLE for r in WHOLE[t]])
def test_whole_rows_are_fine(task, row):
  task = base.load(task)
  assert len(task.examples(task.units([row]), 'train')) == 1


@pytest.mark.parametrize(
  'task, row, path, value, words',
  [
    ('multirc', MULTIRC, 'passage', 'a text', "is 'a text', not an object"),
    ('multirc', MULTIRC, 'passage', GONE, "no field 'passage'"),
    ('multirc', MULTIRC, 'passage.text', GONE, "no field 'text'"),
    ('multirc', MULTIRC, 'passage.text', 3, "has 3 in 'text', expected text"),
    ('multirc', MULTIRC, 'passage.questions', GONE, "no field 'questions'"),
    ('multirc', MULTIRC, 'passage.questions', 3, "'questions', expected a lis"),
    ('multirc', MULTIRC, 'passage.questions.0', 'q', "question 0, is 'q', not"),
    ('multirc', MULTIRC, 'passage.questions.0.question', GONE, "'question'"),
    ('multirc', MULTIRC, 'passage.questions.0.answers', {}, 'expected a list'),
    (
      'multirc',
      MULTIRC,
      'passage.questions.0.answers.0',
      'a',
      "is 'a', not an",
    ),
    ('multirc', MULTIRC_FLAT, 'idx', 3, 'is 3, not an object'),
    ('multirc', MULTIRC_FLAT, 'idx.question', GONE, "no field 'question'"),
    ('multirc', MULTIRC_FLAT, 'idx.paragraph', [1], "has [1] in 'paragraph'"),
    ('multirc', MULTIRC_FLAT, 'answer', GONE, "no field 'answer'"),
    ('record', RECORD, 'passage', 'a text', "is 'a text', not an object"),
    ('record', RECORD, 'passage.text', None, "has None in 'text', expected"),
    ('record', RECORD, 'passage.entities', 'Ann', "'entities', expected a lis"),
    ('record', RECORD, 'passage.entities.0', 'Ann', "is 'Ann', not an object"),
    ('record', RECORD, 'passage.entities.0.start', GONE, "no field 'start'"),
    (
      'record',
      RECORD,
      'passage.entities.0.end',
      '2',
      'expected a whole number',
    ),
    ('record', RECORD, 'qas', {}, "has {} in 'qas', expected a list"),
    ('record', RECORD, 'qas.0', '@placeholder', 'query 0, is'),
    ('record', RECORD, 'qas.0.answers', 'Ann', "'answers', expected a list"),
    ('record', RECORD, 'qas.0.answers.0', 'Ann', "is 'Ann', not an object"),
    ('record', RECORD, 'qas.0.answers.0.text', GONE, "no field 'text'"),
    ('record', RECORD_FLAT, 'idx', 3, 'is 3, not an object'),
    ('record', RECORD_FLAT, 'idx.query', GONE, "no field 'query'"),
    ('record', RECORD_FLAT, 'entities', 'Ann', "'entities', expected a list"),
    (
      'record',
      RECORD_FLAT,
      'entities.0',
      3,
      "3 in 'entities[0]', expected text",
    ),
    ('record', RECORD_FLAT, 'passage', {}, "has {} in 'passage', expected te"),
    ('wsc', WSC, 'target', 'she', "is 'she', not an object"),
    ('wsc', WSC, 'target.span1_index', '0', "has '0' in 'span1_index', expect"),
    ('wsc', WSC, 'target.span2_text', 3, "has 3 in 'span2_text', expected tex"),
    ('wsc', WSC, 'text', ['Ann'], "in 'text', expected text"),
  ],
)
def test_a_broken_row_gets_a_sentence(task, row, path, value, words):
  """Also where few examples are drawn, which cuts rows before the task does."""
  task, row = base.load(task), broken(row, path, value)
  for rows in (lambda: [row], lambda: task.units([row])):
    with pytest.raises(UserError) as error:
      task.examples(rows(), 'train')
    text = str(error.value)
    assert words in text and 'row 0 of train' in text and '\n' not in text


def test_a_row_that_is_none_is_told():
  with pytest.raises(UserError, match="row 0 of dev is 'text', not an object"):
    base.load('rte').examples(['text'], 'dev')


@pytest.mark.parametrize('task', ('rte', 'axb', 'copa', 'cb'))
def test_true_is_a_label_only_of_true_and_false(task):
  """As a number it would be 1: not_entailment, the second choice."""
  task = base.load(task)
  row = {key: 'x' for _, key in task.fields}
  with pytest.raises(UserError, match='has the label True; it can be'):
    task.examples([{**row, 'label': True}], 'dev')
  assert task.examples([{**row, 'label': 1}], 'dev')
  row = {key: 'x' for _, key in base.load('boolq').fields}
  (yes,) = base.load('boolq').examples([{**row, 'label': True}], 'dev')
  assert yes.targets == 'True'


def test_a_label_of_many_digits_is_told():
  row = {'premise': '', 'hypothesis': '', 'label': '9' * 5000}
  with pytest.raises(UserError, match='row 0 of dev has the label'):
    base.load('rte').examples([row], 'dev')
