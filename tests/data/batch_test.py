"""Ids, EOS, padding, and what is refused rather than cut."""

import itertools

import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.data import batch
from ptjax.data.batch import Encoded
from ptjax.tasks.base import Example

# A choice of three words, one of two, one of one.
CHOICES = ('not at all', 'not so', 'yes')


class Words:
  """A tokenizer: one id a word, its length + 10."""

  eos_id, pad_id = 1, 0
  begin, joint = (), ''

  def encode_batch(self, texts):
    return [[len(word) + 10 for word in text.split()] for text in texts]

  def encode(self, text):
    return self.encode_batch([text])[0]


def example(inputs: str, targets: str = 'yes', choices=()) -> Example:
  return Example(inputs=inputs, targets=targets, choices=choices)


def ids(*found: int) -> np.ndarray:
  return np.array(found, np.int32)


def test_encode_ends_everything_with_eos():
  (row,), cut = batch.encode(
    [example('a bb ccc', 'yes', CHOICES)], Words(), input_length=9
  )
  assert row.inputs.tolist() == [11, 12, 13, 1]
  assert row.targets.tolist() == [13, 1]
  assert [c.tolist() for c in row.choices] == [
    [13, 12, 13, 1],
    [13, 12, 1],
    [13, 1],
  ]
  assert row.inputs.dtype == row.targets.dtype == np.int32
  assert cut == 0


def test_inputs_are_cut_before_eos_and_counted():
  examples = [example('a bb ccc'), example('a bb'), example('a bb ccc dddd')]
  rows, cut = batch.encode(examples, Words(), input_length=3)
  assert [r.inputs.tolist() for r in rows] == [[11, 12, 1]] * 3
  assert cut == 2


def test_an_unknown_answer_has_no_eos():
  (row,), _ = batch.encode(
    [example('a', '', CHOICES)], Words(), input_length=9, target_length=4
  )
  assert row.targets.size == 0 and len(row.choices) == 3


class Bytes(Words):
  """As a GPT's: a space is part of a word's id, and 7 begins a text."""

  begin, joint = (7,), ' '

  def encode_batch(self, texts):
    return [
      [10 * ' '.count(text[:1] or '.') + len(text.strip())] if text else []
      for text in texts
    ]


def test_a_causal_answer_goes_on_where_its_input_ends():
  """No EOS behind the input; the space is the answer's, unless a line ends."""
  examples = [
    example('Label : ', 'yes', ('yes', 'no')),
    example('Label :', 'yes', ('yes', 'no')),
    example('Label\n', 'yes', ('yes', 'no')),
  ]
  rows, _ = batch.encode(examples, Bytes(), input_length=9, causal=True)
  assert [r.inputs.tolist() for r in rows] == [[7, 7], [7, 7], [7, 5]]
  assert [r.targets.tolist() for r in rows] == [[13, 1], [13, 1], [3, 1]]
  assert [[c.tolist() for c in r.choices] for r in rows] == [
    [[13, 1], [12, 1]],
    [[13, 1], [12, 1]],
    [[3, 1], [2, 1]],
  ]


@pytest.mark.parametrize(
  'behind,text,want',
  [
    ('Label :', 'yes', [13, 1]),
    ('Label\n', 'yes', [3, 1]),
    ('Label :', '', [1]),  # no space is said before the end
  ],
)
def test_what_is_said_behind_an_input_ends(behind, text, want):
  found = batch.answer_ids(text, Bytes(), behind=behind, causal=True)
  assert found == want


def test_a_causal_input_is_cut_in_front_and_keeps_what_begins_it():
  """Its end is what is gone on from."""
  bare = Words()
  rows, cut = batch.encode(
    [example('a bb ccc dddd'), example('')], bare, input_length=3, causal=True
  )
  assert rows[0].inputs.tolist() == [12, 13, 14] and cut == 1
  assert rows[1].inputs.tolist() == [1]  # nothing at all: as behind a text
  bare.begin = (7,)
  rows, cut = batch.encode(
    [example('a bb ccc dddd'), example('')], bare, input_length=3, causal=True
  )
  assert rows[0].inputs.tolist() == [7, 13, 14] and cut == 1
  assert rows[1].inputs.tolist() == [7]


@pytest.mark.parametrize(
  'found',
  [example('a', 'not at all'), example('a', 'yes', CHOICES)],
  ids=['target', 'choice'],
)
def test_an_answer_that_does_not_fit_is_refused(found):
  with pytest.raises(UserError, match="'not at all', which needs 4 pieces"):
    batch.encode([found], Words(), input_length=9, target_length=3)
  batch.encode([found], Words(), input_length=9, target_length=4)


@pytest.mark.parametrize(
  'found',
  [
    example('a \ud83d b'),
    example('a', '\udc00'),
    example('a', 'yes', ('no', '\ud83d')),
  ],
  ids=['input', 'target', 'choice'],
)
def test_half_of_a_surrogate_pair_is_refused(found):
  """JSON can say it, no tokenizer can read it."""
  rows = [example('fine'), found]
  with pytest.raises(UserError, match=r'\\ud.* holds half of a surrogate pair'):
    batch.encode(rows, Words(), input_length=9)


def waste(lengths, buckets) -> int:
  fits = [min(b for b in buckets if b >= n) for n in lengths]
  return sum(fits)


@pytest.mark.parametrize('seed', range(8))
def test_buckets_are_the_best_of_all(seed):
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, 60, rng.integers(1, 30)).tolist()
  count = int(rng.integers(1, 5))
  found = batch.choose_buckets(
    lengths, max_length=512, count=count, multiple=4, least_gain=0
  )
  sizes = sorted({-(-n // 4) * 4 for n in lengths})
  every = itertools.combinations(sizes, min(count, len(sizes)))
  best = min(waste(lengths, some) for some in every if some[-1] == sizes[-1])
  assert waste(lengths, found) == best
  assert len(found) <= count and list(found) == sorted(set(found))


def test_no_bucket_is_beyond_max_length():
  found = batch.choose_buckets([3, 40, 97, 99, 300], max_length=100)
  assert found == (8, 40, 100)


def test_a_bucket_that_saves_little_is_not_worth_its_compilation():
  lengths = [48] * 90 + [40] * 10  # a bucket of 40 saves 80 of 4800 positions
  assert batch.choose_buckets(lengths, max_length=64) == (48,)
  finer = batch.choose_buckets(lengths, max_length=64, least_gain=0.01)
  assert finer == (40, 48)


def test_buckets_fit_batches_of_about_one_length():
  # Four batches of two rows, padded to 8, 16, 24 and 64 by their longest.
  lengths = [64, 9, 24, 23, 16, 15, 8, 7]
  found = batch.choose_buckets(lengths, max_length=64, rows=2)
  assert found == (8, 16, 24, 64)
  # The last batch may have one row.
  assert batch.choose_buckets(lengths[:3], max_length=64, rows=2) == (16, 64)


def test_equal_lengths_need_one_bucket():
  assert batch.choose_buckets([7] * 5, max_length=100) == (8,)


def test_target_length_holds_every_answer():
  rows = [
    Encoded(ids(5, 1), ids(5, 1)),
    Encoded(ids(5, 1), ids(), (ids(5, 6, 7, 8, 1), ids(1))),
  ]
  # Of free text a multiple of four, of choices the longest.
  assert batch.target_length(rows[:1]) == 4
  assert batch.target_length(rows) == 8
  assert batch.target_length(rows[1:]) == 5
  assert batch.target_length([Encoded(ids(5), ids())]) == 4


def test_make_pads_and_masks():
  rows = [Encoded(ids(5, 6, 1), ids(7, 1)), Encoded(ids(0, 8), ids(9, 9, 1))]
  made = batch.make(rows, [1, 0], shape=(4, 3), pad_id=3)
  assert made['inputs'].tolist() == [[0, 8, 3, 3], [5, 6, 1, 3]]
  # By lengths: a pad id inside a row (raw ids) is no padding.
  assert made['input_mask'].astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]
  assert made['targets'].tolist() == [[9, 9, 1], [7, 1, 3]]
  assert made['target_mask'].astype(int).tolist() == [[1, 1, 1], [1, 1, 0]]
  assert made['index'].tolist() == [1, 0]
  assert made['inputs'].dtype == made['index'].dtype == np.int32
  assert made['input_mask'].dtype == bool and 'choices' not in made


def test_filler_rows_count_nowhere():
  rows = [Encoded(ids(5, 1), ids(7, 1), (ids(7, 1),))]
  made = batch.make(rows, [0, -1], shape=(4, 3), choices=2)
  assert made['index'].tolist() == [0, -1]
  assert (
    not made['target_mask'][1].any() and not made['choice_lengths'][1].any()
  )
  assert made['input_mask'].any(-1).all()


def test_choices_of_unequal_numbers():
  rows = [
    Encoded(ids(5, 1), ids(7, 1), (ids(7, 1), ids(8, 9, 1))),
    Encoded(ids(5, 1), ids(7, 1), (ids(4, 1),)),
  ]
  made = batch.make(rows, [0, 1], shape=(2, 4), choices=3)
  assert made['choices'].shape == (2, 3, 4)
  assert made['choices'][0].tolist() == [
    [7, 1, 0, 0],
    [8, 9, 1, 0],
    [0, 0, 0, 0],
  ]
  assert made['choice_lengths'].tolist() == [[2, 3, 0], [2, 0, 0]]
