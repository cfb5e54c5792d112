"""Three tasks of free text: formats, several right answers, bad rows."""

import pytest

from ptjax.config import UserError
from ptjax.tasks import base, metrics

ROWS = {
  'summarization': {
    'document': 'It rained.\nAll day. ',
    'summary': ' Much rain.',
  },
  'qa': {'context': 'Ann left.', 'question': 'Who left?', 'answers': ['Ann']},
  'translation': {'en': 'A dog.', 'de': 'Ein Hund.'},
}
READ = {
  'summarization': 'Text : It rained.\nAll day. Summary :',
  'qa': 'Context : Ann left. Question : Who left? Answer :',
  'translation': 'English : A dog. German :',
}
SAID = {'summarization': 'Much rain.', 'qa': 'Ann', 'translation': 'Ein Hund.'}


def test_the_family_is_its_three_tasks():
  assert base.names('generation') == [f'generation/{name}' for name in ROWS]
  assert base.names('qa+boolq') == ['generation/qa', 'superglue/boolq']


@pytest.mark.parametrize('name', ROWS)
def test_a_row_is_text_that_asks_for_its_answer(name):
  task = base.load(name)
  (example,) = task.examples([{**ROWS[name], 'idx': 'x1'}], 'train')
  assert example.inputs == READ[name] and example.targets == SAID[name]
  assert not example.choices and example.meta['idx'] == 'x1'
  named = base.load(name, prefix=True)
  assert next(named.convert(ROWS[name], 0, split='dev')).inputs == (
    f'{name} {READ[name]}'
  )
  found = task.metrics([f' {SAID[name]} '], [example])
  assert list(found) == list(task.metric_names)
  if name != 'translation':  # BLEU of two words has no four-grams
    assert set(found.values()) == {100}
  assert set(task.metrics([''], [example]).values()) == {0}
  assert task.invalid(['anything'], [example]) == 0


def test_any_answer_is_right_and_the_first_is_learnt():
  task = base.load('qa')
  row = {**ROWS['qa'], 'answers': ['Ann', ' ', 'Ann Lee ']}
  (example,) = task.examples([row], 'dev')
  assert example.targets == 'Ann'
  assert example.meta['answers'] == ('Ann', 'Ann Lee')
  assert task.metrics(['the Ann Lee!'], [example]) == {'em': 100, 'f1': 100}
  half = task.metrics(['Ann Lee Bo'], [example])
  assert half == {'em': 0, 'f1': pytest.approx(80)}  # 2·2 / (2 + 3)


@pytest.mark.parametrize('name', ROWS)
def test_a_test_row_may_have_no_answer(name):
  task = base.load(name)
  key = task.answer[1]
  for row in ({**ROWS[name], key: None}, {**ROWS[name], key: ''}):
    (example,) = task.examples([row], 'test')
    assert not task.labelled([example]) and example.targets == ''
    with pytest.raises(UserError, match='row 0 of train has no label'):
      task.examples([row], 'train')


@pytest.mark.parametrize(
  'name, change, sentence',
  [
    ('qa', {'context': None}, "has None in 'context', expected text"),
    ('qa', {'answers': [3]}, "has 'answers' = [3], expected a text or a list"),
    ('qa', {'answers': 3}, "has 'answers' = 3, expected a text or a list"),
    ('translation', {'en': ['A']}, "has ['A'] in 'en', expected text"),
  ],
)
def test_a_bad_field_is_one_sentence(name, change, sentence):
  with pytest.raises(UserError) as error:
    base.load(name).examples([{**ROWS[name], **change}], 'train')
  assert sentence in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('name', ROWS)
def test_a_missing_column_is_one_sentence(name):
  task = base.load(name)
  for key in ROWS[name]:
    kept = {k: v for k, v in ROWS[name].items() if k != key}
    with pytest.raises(UserError, match=f'row 0 of dev has no field {key!r}'):
      task.examples([kept], 'dev')


@pytest.mark.parametrize(
  'name, package, install',
  [
    ('summarization', 'rouge_score', 'pip install rouge-score'),
    ('translation', 'sacrebleu', 'pip install sacrebleu'),
  ],
)
def test_a_metric_without_its_package_is_told_at_once(
  monkeypatch, name, package, install
):
  find = metrics.importlib.util.find_spec
  monkeypatch.setattr(
    metrics.importlib.util,
    'find_spec',
    lambda wanted: None if wanted == package else find(wanted),
  )
  with pytest.raises(UserError, match=install):
    base.load(name)
  base.load('qa')
  with pytest.raises(UserError, match=install):
    base.load(
      'custom/mine',
      template='{a}',
      target='b',
      metric_names=({'rouge_score': 'rouge'}.get(package, 'bleu'),),
    )
