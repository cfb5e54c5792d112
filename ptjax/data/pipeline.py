"""The order of examples: which rows are in the batch of a step.

Owns shuffling, bucketing by length and each host's share. The whole state is
the number of the step: everything is a function of (seed, step), so a resumed
run needs nothing else, and every host agrees on every shape without a word.
Knows no text and no model.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ptjax.config import UserError
from ptjax.data import batch
from ptjax.data.batch import Batch, Encoded


def train_batches(
  encoded: Sequence[Encoded],
  *,
  batch_size: int,
  buckets: Sequence[int],
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  target_length: int = 0,
  parts: Sequence[int] = (),
  cap: int = 0,
) -> Iterator[Batch]:
  """The batches of steps start_step, start_step + 1, … without end.

  Epoch e is a permutation of all examples, drawn from (seed, e). The epochs,
  one after the other, are one stream, which is cut into windows of as many
  full batches as fit in an epoch (at least one). Inside a window the rows are
  put in batches by length, and the batches are shuffled. So every example
  comes once an epoch, none is dropped, every batch is full, and small sets
  repeat inside a batch. Which lengths come when is the same for all seeds, so
  that the members of a population have steps of one shape.

  Of a mixture an epoch has all examples of a task that has `cap` or fewer, and
  of a larger one the next `cap` of its own endless permutations: examples come
  in proportion to min(size, cap), T5's "examples-proportional mixing".

  Args:
    batch_size: rows of all hosts together.
    buckets: padded input lengths, ascending.
    start_step: updates done. Costs one window, however large it is.
    process_index: which share of the rows to give, of `process_count`.
    target_length: padded length of the targets; 0 = the longest there is.
    parts: how many rows are of each task of a mixture, one task after the
      other; () = they are of one.
  """
  share = _share(batch_size, process_index, process_count)
  sizes = _bucket_of(encoded, buckets)
  mix = _Mix(tuple(parts) or (len(encoded),), cap if parts else 0)
  silent = sum(not len(row.targets) for row in encoded)
  if silent:
    raise UserError(
      f'{silent} of {len(encoded)} training examples have no target, so they '
      'teach nothing; leave them out'
    )
  length = target_length or batch.target_length(encoded)
  per_window = max(1, mix.epoch // batch_size)
  window, skip = divmod(start_step, per_window)
  while True:
    for rows in _window(
      *(window, sizes, mix),
      batch_size=batch_size,
      count=per_window,
      seed=seed,
    )[skip:]:
      shape = (buckets[sizes[rows].max()], length)
      yield batch.make(encoded, rows[share], shape=shape)
    window, skip = window + 1, 0


def eval_batches(
  encoded: Sequence[Encoded],
  *,
  batch_size: int,
  buckets: Sequence[int],
  with_choices: bool = False,
  process_index: int = 0,
  process_count: int = 1,
  target_length: int = 0,
) -> Iterator[Batch]:
  """Every example once, by length; `index` says which, -1 is a filler row."""
  share = _share(batch_size, process_index, process_count)
  sizes = _bucket_of(encoded, buckets)
  length = target_length or batch.target_length(encoded)
  offered = np.array([len(row.choices) for row in encoded], int)
  # Rows with as many choices side by side: ReCoRD has from two to dozens.
  order = np.lexsort((offered, sizes) if with_choices else (sizes,))
  widths = _choice_buckets(offered) if with_choices else ()
  for start in range(0, len(order), batch_size):
    rows = np.full(batch_size, -1)
    found = order[start : start + batch_size]
    rows[: len(found)] = found
    yield batch.make(
      encoded,
      rows[share],
      shape=(buckets[sizes[found].max()], length),
      choices=_fit(offered[found].max(), widths) if with_choices else 0,
    )


def _share(batch_size: int, index: int, count: int) -> slice:
  each, rest = divmod(batch_size, count)
  if rest:
    raise UserError(
      f'the batch size {batch_size} does not divide among {count} processes; '
      f'use {batch_size - rest or count} or {batch_size - rest + count}'
    )
  return slice(index * each, (index + 1) * each)


def _bucket_of(
  encoded: Sequence[Encoded], buckets: Sequence[int]
) -> np.ndarray:
  """The number of the smallest bucket that fits each row."""
  if not len(encoded):
    raise UserError('there are no examples to make batches of')
  if not buckets or list(buckets) != sorted(set(buckets)):
    raise UserError(f'buckets={tuple(buckets)} must be lengths that ascend')
  lengths = np.array([len(row.inputs) for row in encoded])
  if lengths.max() > buckets[-1]:
    raise UserError(
      f'buckets={tuple(buckets)} has no room for an input of '
      f'{lengths.max()} pieces; add that length, or lower input_length to '
      f'{buckets[-1]}'
    )
  return np.searchsorted(buckets, lengths)


def _choice_buckets(offered: np.ndarray) -> tuple[int, ...]:
  most = max(1, int(offered.max()))
  return batch.choose_buckets(offered, max_length=most, count=3, multiple=1)


def _fit(size: int, buckets: Sequence[int]) -> int:
  return buckets[int(np.searchsorted(buckets, size))]


@dataclasses.dataclass(frozen=True)
class _Mix:
  """How many rows there are of each task, and at most an epoch; 0 = all."""

  parts: tuple[int, ...]
  cap: int

  @property
  def shares(self) -> list[int]:
    return [min(size, self.cap or size) for size in self.parts]

  @property
  def epoch(self) -> int:
    """Its rows."""
    return sum(self.shares)

  def rows(self, seed: int, epoch: int) -> np.ndarray:
    """Those of an epoch, in order."""
    order = permutation(seed, 0, epoch, size=self.epoch)
    if self.epoch == sum(self.parts):
      return order
    found, first = [], 0
    for number, (size, share) in enumerate(zip(self.parts, self.shares)):
      own = _stream(
        *(size, epoch * share, share),
        lambda e, key=(seed, 2, number), n=size: permutation(*key, e, size=n),
      )
      found.append(first + own)
      first += size
    return np.concatenate(found)[order]


def _window(
  window: int,
  sizes: np.ndarray,
  mix: _Mix,
  *,
  batch_size: int,
  count: int,
  seed: int,
) -> list[np.ndarray]:
  """The rows of a window's batches; their number depends on no draw."""
  size = count * batch_size
  rows = _stream(
    *(mix.epoch, window * size, size), lambda epoch: mix.rows(seed, epoch)
  )
  batches, left = [], rows[:0]
  for bucket in range(sizes.max() + 1):
    # What fills no batch goes with the next longer rows.
    here = np.concatenate([left, rows[sizes[rows] == bucket]])
    full = len(here) // batch_size
    batches += list(here[: full * batch_size].reshape(full, batch_size))
    left = here[full * batch_size :]
  return [batches[i] for i in permutation(0, 1, window, size=len(batches))]


def _stream(
  n: int, start: int, size: int, epoch: Callable[[int], np.ndarray]
) -> np.ndarray:
  """Rows start, …, start + size - 1 of all epochs of n, one after the other."""
  first, last = start // n, (start + size - 1) // n
  epochs = [epoch(e) for e in range(first, last + 1)]
  return np.concatenate(epochs)[start - first * n :][:size]


def permutation(*key: int, size: int) -> np.ndarray:
  """The order of `size` things that a key draws, the same for ever."""
  # By sorting raw bits, whose stream numpy promises to keep for ever; its
  # Generator.permutation may change between versions.
  bits = np.random.PCG64(np.random.SeedSequence(key)).random_raw(size)
  return np.argsort(bits, kind='stable')
