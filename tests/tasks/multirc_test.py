"""MultiRC: mark-up, both schemas, F1 over answers and match over questions."""

import pytest

from ptjax.config import UserError
from ptjax.tasks import base

PARAGRAPH = (
  '<b>Sent 1: </b>Once upon a time, there was a squirrel named Joey.<br>'
  '<b>Sent 2: </b>Joey loved to go outside and play with his cousin Jimmy.'
)
QUESTION = 'Why was Joey surprised the morning he woke up for breakfast?'
WANTED = (
  f'question: {QUESTION} answer: There was only pie to eat paragraph: Sent 1: '
  'Once upon a time, there was a squirrel named Joey. Sent 2: Joey loved to go '
  'outside and play with his cousin Jimmy.'
)
FLAT = {
  'paragraph': PARAGRAPH,
  'question': QUESTION,
  'answer': 'There was only pie to eat',
  'label': 1,
  'idx': {'paragraph': 5, 'question': 1, 'answer': 3},
}


def nested(labels, *, idx=5):
  """A row of the original schema: {question: labels of its answers}."""
  questions, count = [], 0
  for q, answers in labels.items():
    found = []
    for label in answers:
      found.append({'text': f'a{count}', 'idx': count, 'label': label})
      count += 1
    questions.append({'question': f'q{q}', 'idx': q, 'answers': found})
  return {'idx': idx, 'passage': {'text': 'p', 'questions': questions}}


def test_markup_goes_from_the_whole_text():
  (example,) = base.load('multirc', prefix=True).examples([FLAT], 'dev')
  assert example.inputs == f'multirc {WANTED}'
  assert example.targets == 'True'
  assert example.meta['group'] == (5, 1)
  (bare,) = base.load('multirc').examples([FLAT], 'dev')
  assert bare.inputs == WANTED


def test_the_original_schema_gives_the_same():
  answer = {'text': FLAT['answer'], 'idx': 3, 'label': 1}
  row = {
    'idx': 5,
    'version': 1.1,
    'passage': {
      'text': PARAGRAPH,
      'questions': [{'question': QUESTION, 'idx': 1, 'answers': [answer]}],
    },
  }
  task = base.load('multirc')
  assert task.examples([row], 'dev') == task.examples([FLAT], 'dev')


def test_answers_without_labels():
  row = nested({0: [None, None]})
  task = base.load('multirc')
  examples = task.examples([row], 'test')
  assert len(examples) == 2 and not task.labelled(examples)


def test_f1_is_over_answers_and_match_over_questions():
  task = base.load('multirc')
  # The same question number under two paragraphs is two questions.
  rows = [nested({0: [1, 1], 1: [0]}, idx=0), nested({0: [1]}, idx=1)]
  examples = task.examples(rows, 'dev')
  found = task.metrics(['True', 'False', 'False', 'nonsense'], examples)
  # Answers: one right, one missed, one that is no label and so missed too.
  assert found == {'f1a': pytest.approx(50), 'em': pytest.approx(100 / 3)}
  assert task.counted(examples) == 4


def test_reference_figures():
  task = base.load('multirc')
  examples = task.examples([nested({0: [1, 1], 1: [0]})], 'dev')
  said = ['True', 'False', 'True']
  assert task.metrics(said, examples)['f1a'] == pytest.approx(50)
  assert task.metrics(said, examples)['em'] == 0


def test_a_unit_is_a_question():
  task = base.load('multirc')
  row = nested({0: [1, 0], 1: [0], 2: [1]})
  units = task.units([row])
  assert len(units) == 3
  assert task.examples(units, 'train') == task.examples([row], 'train')
  flat = [{**FLAT, 'idx': {**FLAT['idx'], 'answer': i}} for i in range(3)]
  units = task.units(flat)
  assert len(units) == 1
  assert task.examples(units, 'train') == task.examples(flat, 'train')


def test_a_missing_field_says_where():
  row = nested({0: [1]})
  del row['passage']['questions'][0]['answers']
  with pytest.raises(UserError, match="question 0, has no field 'answers'"):
    base.load('multirc').examples([row], 'dev')
