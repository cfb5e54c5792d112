"""Pairs by a clock that the sides themselves move."""

import pytest

from ptjax.bench import pairs


class Clock:
  """Seconds that pass only when a side works."""

  def __init__(self):
    self.now, self.calls = 0.0, []

  def __call__(self) -> float:
    return self.now

  def side(self, name, seconds):
    """Works so many seconds a time, by turns of `seconds`."""
    left = list(seconds)

    def work(times):
      self.calls.append((name, times))
      self.now += times * (left.pop(0) if len(left) > 1 else left[0])

    return work


def test_pairs_are_neighbours_in_time_and_warm_up_does_not_count():
  clock = Clock()
  first = clock.side('a', [100, 50, 1, 2, 4])
  second = clock.side('b', [900, 50, 3, 2, 20])
  found = pairs.measure(first, second, repeats=3, clock=clock)
  assert found == pairs.Pairs((1, 2, 4), (3, 2, 20))
  assert found.ratio == pairs.Range(1, 3, 5)
  order = [name for name, _ in clock.calls]
  assert order == [*'aa', *'bb', *'ab', *'ba', *'ab']


def test_a_short_side_is_done_as_often_as_fills_the_least_seconds():
  clock = Clock()
  first, second = clock.side('a', [0.125]), clock.side('b', [3.0])
  found = pairs.measure(first, second, repeats=2, least=1.0, clock=clock)
  assert clock.calls[4:] == [('a', 8), ('b', 1), ('b', 1), ('a', 8)]
  assert found == pairs.Pairs((0.125, 0.125), (3, 3))


@pytest.mark.parametrize(
  'values,scale,text',
  [
    ([0.01234, 0.5, 0.0999], 1e3, '12.3 99.9 500'),
    ([4.5678, 5.0, 12345.6], 1, '4.57 5.00 12346'),
    ([0.1, 0.2, 0.3, 0.6], 1, '0.10 0.25 0.60'),
  ],
)
def test_a_range_has_three_digits(values, scale, text):
  assert pairs.Range.of(values).text(scale) == text
