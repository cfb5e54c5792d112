"""Twitter complaints: the text a model reads, and what files call a label."""

import pytest

from ptjax.config import UserError
from ptjax.tasks import base, submission


@pytest.fixture
def task():
  return base.load('raft/twitter_complaints')


def row(**changes):
  return {'Tweet text': '@a  where is it? ', 'Label': 'complaint', 'ID': 7} | (
    changes
  )


def test_a_row_is_what_a_causal_model_goes_on_from(task):
  (example,) = task.examples([row()], 'train')
  assert example.inputs == 'Tweet text : @a  where is it? Label :'
  assert example.targets == 'complaint'
  assert example.choices == ('complaint', 'no complaint')
  assert example.meta == {'idx': 7, 'label': 0}
  named = base.load('twitter_complaints', prefix=True)
  assert next(named.convert(row(), 0, split='train')).inputs == (
    f'twitter_complaints {example.inputs}'
  )


@pytest.mark.parametrize(
  'value, label',
  [
    ('complaint', 0),
    (' No complaint', 1),
    (1, 0),
    (2, 1),
    ('2', 1),
    (0, None),
    ('Unlabeled', None),
    ('', None),
    (None, None),
  ],
)
def test_labels_as_words_and_as_the_hub_counts_them(task, value, label):
  (example,) = task.examples([row(Label=value)], 'test')
  assert example.meta['label'] == label
  assert task.labelled([example]) == (label is not None)


@pytest.mark.parametrize(
  'changed, split, sentence',
  [
    ({'Label': 'complain'}, 'train', "row 0 of train has the label 'complain'"),
    ({'Label': 3}, 'dev', "the label '3'; it can be complaint, no complaint"),
    ({'Label': ''}, 'train', 'row 0 of train has no label, which train needs'),
    ({'Tweet text': 5}, 'test', "has 5 in 'Tweet text', expected text"),
  ],
)
def test_a_bad_row_is_one_sentence(task, changed, split, sentence):
  with pytest.raises(UserError) as error:
    task.examples([row(**changed)], split)
  assert sentence in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('key', ['Tweet text', 'Label'])
def test_a_missing_column_is_one_sentence(task, key):
  kept = {k: v for k, v in row().items() if k != key}
  with pytest.raises(UserError, match=f'row 0 of train has no field {key!r}'):
    task.examples([kept], 'train')


def test_both_metrics_in_their_order(task):
  labels = ['complaint', 'no complaint', 'no complaint', 'no complaint']
  examples = task.examples([row(Label=word) for word in labels], 'dev')
  said = ['no complaint', 'no complaint', 'no complaint', 'no']
  found = task.metrics(said, examples)
  # Complaint: F1 0. No complaint: two right of three said and three meant.
  assert list(found.items()) == [
    ('accuracy', 50),
    ('macro_f1', pytest.approx(100 * (0 + 2 / 3) / 2)),
  ]
  assert task.invalid(said, examples) == 25


def test_the_submission_has_the_ids_of_the_tweets(task, tmp_path):
  rows = [row(ID=str(50 + i)) for i in range(3)]
  examples = task.examples(rows, 'test')
  said = ['no complaint', 'what?', 'complaint']
  path, replaced = submission.write(tmp_path, task, said, examples=examples)
  assert path == tmp_path / 'twitter_complaints/predictions.csv'
  assert path.read_text() == (
    'ID,Label\n50,no complaint\n51,complaint\n52,complaint\n'
  )
  assert replaced == 1
