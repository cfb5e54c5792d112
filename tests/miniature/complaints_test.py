"""The small Twitter complaints: schema, labels, splits, and no single cue."""

import collections
import re

import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.miniature import baselines, complaints, customers


def test_rows_have_the_original_fields():
  for split, size in complaints.SIZES.items():
    rows = complaints.rows(split)
    assert len(rows) == size
    assert [row['ID'] for row in rows] == list(range(size))
    for row in rows:
      assert list(row) == ['Tweet text', 'Label', 'ID']
      assert row['Label'] in complaints.LABELS
      assert re.match(r'@\w+ ', row['Tweet text'])


def test_rows_are_the_same_at_every_call():
  assert complaints.rows('dev') == complaints.rows('dev')
  assert complaints.rows('dev', seed=1) != complaints.rows('dev')
  assert complaints.rows('dev', size=5) == complaints.rows('dev')[:5]


def test_no_text_is_there_twice_in_a_split_or_in_two():
  texts = [
    row['Tweet text'] for split in complaints.SIZES
    for row in complaints.rows(split, size=1000)
  ]  # fmt: skip
  assert len(texts) == len(set(texts)) == 3000


@pytest.mark.parametrize('split', complaints.SIZES)
def test_labels_are_about_even(split):
  labels = [row['Label'] for row in complaints.rows(split)]
  assert 0.45 < labels.count('complaint') / len(labels) < 0.55


def label(text: str) -> str:
  """The label, from the text alone, by other means than the generator's."""
  text = re.sub(r'I was here( again)?', '', text)
  wish = re.search(r'(?:wanted|asked for) (?:a|the) (\w+)', text)
  if wish:
    came = re.search(r'(?:got|sent) (?:a|the) (\w+)', text)
    return complaints.LABELS[wish[1] != came[1]]
  bad = {b for _, pairs in customers.QUALITIES for _, b in pairs}
  for pattern in (
    r'then it was (\w+)',
    r'now the \w+ is (\w+)',
    r'is (\w+) now',
    r'I say (?:the \w+|it) is (\w+)',
    r'I found (?:the \w+|it) (\w+)',
  ):
    if found := re.search(pattern, text):
      return complaints.LABELS[found[1] in bad]
  found = re.search(r'(?:was|is) (not )?(\w+)', text)
  return complaints.LABELS[(found[2] in bad) != bool(found[1])]


def test_labels_are_right():
  rows = complaints.rows('train', size=1000)
  wrong = [r for r in rows if label(r['Tweet text']) != r['Label']]
  assert wrong == []


def test_every_kind_of_experience_is_there():
  rows = ' '.join(row['Tweet text'] for row in complaints.rows('test'))
  for words in ('asked for a', 'and got the', 'before', 'I say', 'not'):
    assert words in rows


@pytest.mark.parametrize('size', (200, 2000))
def test_a_bag_of_words_is_near_the_majority(size):
  train = complaints.rows('train', size=size)
  test = complaints.rows('test')

  def bag(row):
    return collections.Counter(re.findall(r'\w+', row['Tweet text']))

  index = {word: i for i, word in enumerate({w for r in train for w in bag(r)})}

  def counts(rows):
    out = np.zeros((len(rows), len(index) + 1))
    out[:, -1] = 1
    for x, row in zip(out, rows):
      for word, count in bag(row).items():
        if word in index:
          x[index[word]] = count
    return out, np.array([1 if r['Label'] == 'complaint' else -1 for r in rows])

  x, y = counts(train)
  weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ y)
  x, y = counts(test)
  accuracy = np.mean(np.sign(x @ weights) == y)
  # One kind of five that a word gives away would be 0.1.
  assert accuracy < max(np.mean(y == 1), np.mean(y == -1)) + 0.06


def test_the_baselines_are_of_these_rows():
  majority, words = baselines.of_complaints('test')
  labels = [row['Label'] for row in complaints.rows('test')]
  # 'no complaint' is the commoner one in train.
  assert majority == 100 * labels.count('no complaint') / len(labels)
  assert words < majority + 6


def test_an_unknown_split_is_refused():
  with pytest.raises(UserError, match="no split 'val'.*train, dev, test"):
    complaints.rows('val')
