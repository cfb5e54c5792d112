"""Two sides of a comparison, timed in turn in one run.

Owns the order of measuring and what is made of the seconds. On a machine that
others use too, seconds say little; the ratio of two neighbours in time does.
Knows not what is measured.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable

LEAST = 0.2  # seconds that a side is timed for; shorter ones are repeated


@dataclasses.dataclass(frozen=True)
class Range:
  """Minimum, median and maximum."""

  min: float
  median: float
  max: float

  @classmethod
  def of(cls, values: list[float]) -> 'Range':
    return cls(min(values), statistics.median(values), max(values))

  def text(self, scale: float = 1.0) -> str:
    """'1.20 1.31 2.05', three digits each."""
    numbers = (self.min, self.median, self.max)
    return ' '.join(_digits(scale * number) for number in numbers)


def _digits(number: float, digits: int = 3) -> str:
  whole = len(str(int(abs(number)))) if abs(number) >= 1 else 1
  return f'{number:.{max(0, digits - whole)}f}'


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Seconds of one call of each side, pair by pair."""

  first: tuple[float, ...]
  second: tuple[float, ...]

  @property
  def ratio(self) -> Range:
    """The second over the first, each with its neighbour."""
    return Range.of([s / f for f, s in zip(self.first, self.second)])


Side = Callable[[int], None]  # does its work so many times, and waits for it


def measure(
  first: Side,
  second: Side,
  *,
  repeats: int,
  least: float = LEAST,
  clock: Callable[[], float] = time.perf_counter,
) -> Pairs:
  """Both sides in turn, `repeats` times; compilation and warm-up apart.

  Args:
    least: what takes fewer seconds is done as often as fills them.
  """

  def seconds(side: Side, times: int) -> float:
    began = clock()
    side(times)
    return (clock() - began) / times

  sides = []
  for side in (first, second):
    side(1)  # compiles
    warm = max(seconds(side, 1), 1e-9)
    sides.append((side, max(1, math.ceil(least / warm))))
  found = []
  for turn in range(repeats):
    # Each side begins every second pair, so that drift favours neither.
    order = (0, 1) if turn % 2 == 0 else (1, 0)
    pair = {i: seconds(*sides[i]) for i in order}
    found.append((pair[0], pair[1]))
  return Pairs(*zip(*found))
