"""Rows that are kept from training, drawn by a seed.

Owns the two draws: of labelled rows, with each label's share as it was; of
texts, with all rows of one source on one side. Knows no file and no task.
"""

import collections
import random
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from ptjax.config import UserError

T = TypeVar('T')


def stratified(
  rows: Sequence[T], share: float, *, seed: int, label: Callable[[T], Hashable]
) -> tuple[list[T], list[T]]:
  """(kept, held out), each in the rows' order.

  Of every label the same share is held out, at least one row of several. A
  plain draw of few rows would give the two sides different majorities, or
  leave a label out of one; the labels it looks at are those of training rows,
  so that nothing leaks.
  """
  numbers = collections.defaultdict(list)
  for i, row in enumerate(rows):
    numbers[label(row)].append(i)
  rng = random.Random(f'held_out/{seed}')
  out = set()
  for of_label in numbers.values():
    size = max(1, round(share * len(of_label)))
    out |= set(rng.sample(of_label, min(size, len(of_label) - 1)))
  return _parted(rows, [i in out for i in range(len(rows))])


def grouped(
  rows: Sequence[T], count: int, *, seed: int, group: Callable[[T], Hashable]
) -> tuple[list[T], list[T]]:
  """(kept, held out), each in the rows' order; no group is in both.

  Args:
    count: rows to hold out at least; groups are drawn until there are so many.

  Raises:
    UserError: there is one group only.
  """
  sizes = collections.Counter(group(row) for row in rows)
  if len(sizes) < 2:
    raise UserError(
      f'{len(rows)} rows of one text cannot be parted into training and dev'
    )
  names = list(sizes)
  random.Random(f'held_out/{seed}').shuffle(names)
  out, held = set(), 0
  for name in names[:-1]:  # the last is left to train on
    if held >= count:
      break
    out.add(name)
    held += sizes[name]
  return _parted(rows, [group(row) in out for row in rows])


def _parted(rows: Sequence[T], held: Sequence[bool]) -> tuple[list[T], list[T]]:
  return (
    [row for row, is_held in zip(rows, held) if not is_held],
    [row for row, is_held in zip(rows, held) if is_held],
  )
