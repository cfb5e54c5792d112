"""What is kept from training: nothing on both sides, labels and texts whole."""

import collections

import pytest

from ptjax.config import UserError
from ptjax.data import held_out

ROWS = [(i, 'yes' if i % 3 == 0 else 'no') for i in range(50)]


def label(row):
  return row[1]


@pytest.mark.parametrize('seed', range(5))
def test_each_label_has_its_share_on_both_sides(seed):
  kept, out = held_out.stratified(ROWS, 1 / 3, seed=seed, label=label)
  assert sorted(kept + out) == ROWS and not set(kept) & set(out)
  assert kept == sorted(kept) and out == sorted(out)  # the rows' order
  # 17 and 33 rows: 6 and 11 of them.
  assert collections.Counter(map(label, out)) == {'yes': 6, 'no': 11}


def test_a_seed_is_a_draw():
  draws = [
    held_out.stratified(ROWS, 1 / 3, seed=seed, label=label)[1]
    for seed in (0, 0, 1)
  ]
  assert draws[0] == draws[1] != draws[2]


def test_a_label_of_few_rows_stays_in_training():
  rows = [(0, 'a'), (1, 'b'), (2, 'b'), (3, 'c'), (4, 'c')]
  kept, out = held_out.stratified(rows, 0.1, seed=0, label=label)
  assert {row[1] for row in kept} == {'a', 'b', 'c'}
  assert [row[1] for row in out] == ['b', 'c']


@pytest.mark.parametrize('seed', range(5))
def test_no_group_is_on_both_sides(seed):
  rows = [(i, i // 4) for i in range(40)]
  kept, out = held_out.grouped(rows, 6, seed=seed, group=label)
  assert sorted(kept + out) == rows
  assert not {row[1] for row in kept} & {row[1] for row in out}
  assert len(out) == 8  # two groups of four


def test_something_is_left_to_train_on():
  rows = [(0, 'a'), (1, 'b')]
  kept, out = held_out.grouped(rows, 5, seed=0, group=label)
  assert len(kept) == len(out) == 1
  with pytest.raises(UserError, match='2 rows of one text cannot be parted'):
    held_out.grouped([(0, 'a'), (1, 'a')], 1, seed=0, group=label)
