"""ReCoRD: highlights, entities, several answers, SQuAD's scores."""

import pytest

from ptjax.tasks import base

FLAT = {
  'query': 'It was @placeholder.',
  'entities': ['B', 'C', 'A'],
  'passage': (
    'This is the passage\n@highlight\nAnother sentence.\n@highlight\n'
    'Third sentence.'
  ),
  'answers': ['C', 'A', 'C'],
  'idx': {'passage': 1, 'query': 2},
}
WANTED = (
  'record query: It was @placeholder. entities: A, B, C passage: This is the '
  'passage. Another sentence. Third sentence.'
)


def test_training_has_one_example_an_answer():
  task = base.load('record', prefix=True)
  examples = task.examples([FLAT], 'train')
  assert [e.inputs for e in examples] == [WANTED, WANTED]
  assert [e.targets for e in examples] == ['A', 'C']
  assert task.counted(examples) == 1


def test_evaluation_asks_each_query_once():
  task = base.load('record')
  (example,) = task.examples([FLAT], 'dev')
  assert example.inputs == WANTED.removeprefix('record ')
  assert example.choices == ('A', 'B', 'C')
  assert task.metrics(['the c!'], [example]) == {'em': 100, 'f1': 100}


def test_without_answers_there_is_nothing_to_score():
  task = base.load('record')
  for answers in ([], None):
    row = {**FLAT, 'answers': answers}
    (example,) = task.examples([row], 'test')
    assert example.targets == '' and not task.labelled([example])


@pytest.mark.parametrize('end', ['.', '?', '!', '"', "'"])
def test_a_highlight_after_an_ended_sentence(end):
  row = {**FLAT, 'passage': f'One{end}\n@highlight\nTwo\n@highlight\nThree'}
  (example,) = base.load('record').examples([row], 'dev')
  assert example.inputs.endswith(f'passage: One{end} Two. Three')


def test_the_original_schema_has_spans():
  text = 'Ann met Bo. Ann left.'
  row = {
    'idx': 7,
    'passage': {
      'text': text,
      'entities': [
        {'start': 0, 'end': 2},
        {'start': 8, 'end': 9},
        {'start': 12, 'end': 14},
      ],
    },
    'qas': [
      {
        'query': '@placeholder left.',
        'idx': 9,
        'answers': [{'start': 0, 'end': 2, 'text': 'Ann'}] * 2,
      },
      {'query': 'Not @placeholder.', 'idx': 10},
    ],
  }
  task = base.load('record')
  first, second = task.examples([row], 'test')
  assert first.choices == ('Ann', 'Bo')
  assert first.targets == 'Ann' and second.targets == ''
  assert first.meta['idx'] == {'passage': 7, 'query': 9}
  assert len(task.units([row])) == 2
  # 'Ann' is named twice.
  assert task.majority_answers([], [first]) == ['Ann']


def test_a_query_counts_once_however_often_it_is_there():
  task = base.load('record')
  other = {**FLAT, 'answers': ['B'], 'idx': {'passage': 1, 'query': 3}}
  examples = task.examples([FLAT, other], 'train')
  found = task.metrics(['C', 'wrong', 'wrong'], examples)
  assert found == {'em': 50, 'f1': 50}


def test_an_answer_that_is_no_entity():
  task = base.load('record')
  examples = task.examples([FLAT], 'train')
  assert task.invalid(['b.', 'Z'], examples) == 50
