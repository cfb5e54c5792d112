"""Which rows come when: nothing lost, nothing twice, the same on every host."""

import collections
import itertools

import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.data import pipeline
from ptjax.data.batch import Encoded

BUCKETS = (4, 8, 16)


def data(n: int, *, seed: int = 0, choices: int = 0) -> list[Encoded]:
  rng = np.random.default_rng(seed)

  def ids(size):
    return rng.integers(2, 99, size).astype(np.int32)

  return [
    Encoded(
      ids(rng.integers(1, 17)),
      ids(rng.integers(1, 4)),
      tuple(ids(2) for _ in range(rng.integers(1, choices + 1)))
      if choices
      else (),
    )
    for _ in range(n)
  ]


def train(encoded, steps, *, batch_size=4, **options):
  batches = pipeline.train_batches(
    encoded,
    batch_size=batch_size,
    buckets=BUCKETS,
    **{'seed': 0, **options},
  )
  return list(itertools.islice(batches, steps))


def same(first, second) -> bool:
  return first.keys() == second.keys() and all(
    np.array_equal(first[k], second[k]) for k in first
  )


def rows(batches) -> list[int]:
  return [int(i) for b in batches for i in b['index']]


@pytest.mark.parametrize('n', [10, 13, 31])
def test_every_example_comes_once_an_epoch(n):
  window = n // 4
  seen = collections.Counter()
  batches = train(data(n), window * n)
  for k in range(n):
    seen.update(rows(batches[k * window : (k + 1) * window]))
    counts = [seen[i] for i in range(n)]
    assert max(counts) - min(counts) <= 1, f'after window {k}'
  assert set(counts) == {window * 4}


@pytest.mark.parametrize('n', [1, 5, 31, 32, 33])
def test_sets_around_the_size_of_a_batch(n):
  batches = train(data(n), 3 * n, batch_size=32)
  counts = collections.Counter(rows(batches))
  assert set(counts) == set(range(n))
  assert max(counts.values()) - min(counts.values()) <= 1
  assert all(len(b['index']) == 32 for b in batches)
  # Inside a batch, too, no example is favoured.
  first = collections.Counter(rows(batches[:1])).values()
  assert max(first) - min(first) <= 1


def test_a_batch_is_what_its_index_says():
  encoded = data(13)
  for made in train(encoded, 6):
    for k, i in enumerate(made['index']):
      assert (
        made['inputs'][k][made['input_mask'][k]].tolist()
        == encoded[i].inputs.tolist()
      )
      assert (
        made['targets'][k][made['target_mask'][k]].tolist()
        == encoded[i].targets.tolist()
      )
    longest = made['input_mask'].sum(1).max()
    assert made['inputs'].shape[1] == min(b for b in BUCKETS if b >= longest)


@pytest.mark.parametrize('n', [3, 13, 40])
def test_resumed_anywhere_it_is_the_same_run(n):
  encoded = data(n)
  whole = train(encoded, 30)
  for step in (1, 2, 3, 7, 16, 29):
    (first, *_) = train(encoded, 30 - step, start_step=step)
    assert same(first, whole[step]), step
  tail = train(encoded, 14, start_step=16)
  assert all(same(*pair) for pair in zip(tail, whole[16:], strict=True))


def test_a_late_start_costs_one_window(monkeypatch):
  """At most two epochs are drawn for its rows, and the order of its batches."""
  drawn = []
  draw = pipeline.permutation

  def counted(*key, size):
    drawn.append(size)
    return draw(*key, size=size)

  monkeypatch.setattr(pipeline, 'permutation', counted)
  train(data(1000), 1, start_step=10**9 + 3)
  assert drawn in ([1000, 250], [1000, 1000, 250])


def test_epochs_and_seeds_differ():
  encoded = data(40)
  one, two = train(encoded, 20), train(encoded, 20, seed=1)
  assert rows(one) != rows(two)
  together = [{frozenset(rows([b])) for b in part} for part in (one, one[10:])]
  assert len(together[0]) == 20 and len(together[1]) == 10  # none comes again
  assert rows(train(encoded, 20)) == rows(one)


def test_the_order_is_what_it_always_was():
  """Fails if a new numpy draws otherwise: resumed runs would change."""
  assert pipeline.permutation(0, 0, 0, size=8).tolist() == ORDER[0]
  assert pipeline.permutation(7, 0, 3, size=8).tolist() == ORDER[1]


ORDER = ([3, 2, 1, 6, 0, 7, 4, 5], [3, 7, 4, 5, 0, 6, 2, 1])


@pytest.mark.parametrize('count', [2, 4])
def test_hosts_share_one_global_batch(count):
  encoded = data(13)
  whole = train(encoded, 9)
  parts = [
    train(encoded, 9, process_index=p, process_count=count)
    for p in range(count)
  ]
  for made, *shares in zip(whole, *parts, strict=True):
    joined = {k: np.concatenate([s[k] for s in shares]) for k in made}
    assert same(joined, made)


def test_short_rows_are_together():
  encoded = data(400)
  made = train(encoded, 100)
  positions = sum(b['inputs'].size for b in made)
  tight = sum(
    min(b for b in BUCKETS if b >= len(encoded[i].inputs)) for i in rows(made)
  )
  # At most a batch of each bucket but the last is longer than need be.
  assert tight <= positions <= tight + 3 * 4 * (16 - 4)
  assert {b['inputs'].shape for b in made} == {(4, b) for b in BUCKETS}
  assert len({b['targets'].shape for b in made}) == 1
  lengths = [b['inputs'].shape[1] for b in made]
  assert lengths != sorted(lengths)


def evaluate(encoded, **options):
  return list(
    pipeline.eval_batches(
      encoded, **{'batch_size': 4, 'buckets': BUCKETS, **options}
    )
  )


@pytest.mark.parametrize('n', [1, 4, 5, 23])
def test_evaluation_drops_nothing(n):
  made = evaluate(data(n))
  found = rows(made)
  assert sorted(i for i in found if i >= 0) == list(range(n))
  assert len(made) == -(-n // 4) and found.count(-1) == -n % 4
  assert all(len(b['index']) == 4 for b in made)
  lengths = [b['inputs'].shape[1] for b in made]
  assert lengths == sorted(lengths)


def test_choices_are_padded_to_few_widths():
  encoded = data(60, choices=9)
  made = evaluate(encoded, with_choices=True)
  for part in made:
    for k, i in enumerate(part['index']):
      offered = len(encoded[i].choices) if i >= 0 else 0
      assert (part['choice_lengths'][k] > 0).sum() == offered
  assert len({b['choices'].shape[1] for b in made}) <= 3
  two = [
    Encoded(row.inputs, row.targets, row.choices[:1] * 2) for row in encoded
  ]
  shapes = {b['choices'].shape for b in evaluate(two, with_choices=True)}
  assert shapes == {(4, 2, 3)}


def test_evaluation_on_several_hosts():
  encoded = data(10, choices=3)
  whole = evaluate(encoded, with_choices=True)
  parts = [
    evaluate(encoded, with_choices=True, process_index=p, process_count=2)
    for p in range(2)
  ]
  for made, *shares in zip(whole, *parts, strict=True):
    joined = {k: np.concatenate([s[k] for s in shares]) for k in made}
    assert same(joined, made)


def test_target_length_may_be_given():
  encoded = data(5)
  assert train(encoded, 1, target_length=7)[0]['targets'].shape == (4, 7)
  assert evaluate(encoded, target_length=7)[0]['targets'].shape == (4, 7)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'encoded': []}, 'no examples'),
    ({'buckets': (4, 8)}, r'no room for an input of 16 pieces'),
    ({'buckets': (8, 4, 16)}, 'ascend'),
    ({'process_count': 3}, '4 does not divide among 3 processes; use 3 or 6'),
  ],
)
def test_what_cannot_be_batched_is_refused(change, message):
  options = {'encoded': data(40), 'batch_size': 4, 'buckets': BUCKETS, **change}
  with pytest.raises(UserError, match=message):
    next(pipeline.train_batches(**options, seed=0))
  with pytest.raises(UserError, match=message):
    next(pipeline.eval_batches(**options))


def test_training_rows_without_a_target_are_refused():
  encoded = data(6)
  encoded[2] = Encoded(encoded[2].inputs, np.zeros(0, np.int32))
  with pytest.raises(UserError, match='1 of 6 training examples have no targ'):
    train(encoded, 1)
  assert evaluate(encoded)


MIX = {'parts': (5, 40, 12), 'cap': 10}  # an epoch is 5 + 10 + 10 rows


def counts(batches, parts) -> list[int]:
  """How many rows are of each part."""
  found = np.searchsorted(np.cumsum(parts), rows(batches), side='right')
  return np.bincount(found, minlength=len(parts)).tolist()


def test_a_mixture_has_tasks_by_their_size_up_to_the_cap():
  batches = train(data(57), 25 * 4, batch_size=5, **MIX)
  for start in range(0, 100, 5):  # an epoch each
    assert counts(batches[start : start + 5], MIX['parts']) == [5, 10, 10]
  # A larger task comes whole before any row comes again.
  seen = collections.Counter(i for i in rows(batches) if 5 <= i < 45)
  assert len(seen) == 40 and set(seen.values()) == {5}
  first = [i for i in rows(batches[:20]) if 5 <= i < 45]
  assert sorted(first) == list(range(5, 45))


def test_a_mixture_mixes_within_an_epoch_and_differs_by_seed():
  batches = train(data(57), 20, batch_size=5, **MIX)
  assert max(counts([b], MIX['parts'])[1] for b in batches) < 5
  other = train(data(57), 20, batch_size=5, seed=1, **MIX)
  assert rows(batches) != rows(other)
  # Not the same rows of a task in every epoch.
  early, late = (
    {i for i in rows(part) if i >= 45} for part in (batches[:5], batches[5:10])
  )
  assert early != late


@pytest.mark.parametrize('at', [0, 1, 7, 23])
def test_a_mixture_resumed_anywhere_is_the_same_run(at):
  whole = train(data(57), 30, batch_size=4, **MIX)
  rest = train(data(57), 30 - at, batch_size=4, start_step=at, **MIX)
  assert all(map(same, whole[at:], rest))


def test_small_tasks_together_are_one_set():
  plain = train(data(57), 30)
  mixed = train(data(57), 30, parts=(5, 40, 12), cap=40)
  assert all(map(same, plain, mixed))
