"""How far a run is, on stderr: a bar on a terminal, plain lines elsewhere.

Owns the numbers (loss, examples/s, time left) and when they are shown. Knows
nothing of steps beyond their number.
"""

import collections
import contextlib
import pathlib
import sys
import time
from typing import Any

import tqdm

# Without a terminal: a line each tenth of the way, and one when so many
# seconds went by without any, which grow with the run.
_PARTS, _SECONDS, _SHARE = 10, 10.0, 0.1
_WINDOW = 10.0  # seconds that the examples/s are measured over


class Progress:
  """One task's way from step `start` to step `total`.

  A context manager. `batch` is the number of examples a step.
  """

  def __init__(
    self,
    name: str,
    *,
    total: int,
    start: int = 0,
    batch: int = 1,
    quiet: bool = False,
  ):
    self._name, self._total, self._at, self._batch = name, total, start, batch
    self._quiet = quiet
    self._values: dict[str, float] = {}
    self._began: tuple[float, int] | None = None
    self._recent: collections.deque[tuple[float, int]] = collections.deque()
    self._rate = 0.0
    self._shown: tuple[float, int] | None = None
    self._bar = None
    if not quiet and sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        desc=name,
        total=total,
        initial=start,
        dynamic_ncols=True,
        bar_format='{desc} {percentage:3.0f}%|{bar}| {n}/{total}{postfix}',
      )

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def update(self, at: int, **values: float) -> None:
    """Step `at` is done; `values` are shown from now on."""
    before, self._at = self._at, at
    self._values.update(values)
    now = time.monotonic()
    # From the first step on, since before it the step was compiled.
    self._began = self._began or (now, at)
    self._recent.append((now, at))
    while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW:
      self._recent.popleft()
    (then, first), (_, last) = self._recent[0], self._recent[-1]
    if now > then and last > first:
      self._rate = (last - first) * self._batch / (now - then)
    if self._bar is not None:
      self._bar.set_postfix_str(self._numbers(now), refresh=False)
      self._bar.update(at - before)
    elif not self._quiet and self._due(now):
      self._line(now)

  def note(self, **values: float) -> None:
    """Shows values of an evaluation, whose time is not the steps'."""
    self._values.update(values)
    self._recent.clear()
    if self._bar is not None:
      self._bar.set_postfix_str(self._numbers(time.monotonic()))
    elif not self._quiet:
      self._line(time.monotonic())

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()

  def _due(self, now: float) -> bool:
    if self._shown is None or self._at == self._total:
      return True
    then, at = self._shown
    tenth = self._at * _PARTS // self._total > at * _PARTS // self._total
    wait = max(_SECONDS, _SHARE * (now - self._began[0]))
    return tenth or now - then >= wait

  def _line(self, now: float) -> None:
    self._shown = (now, self._at)
    done = f'{self._name} {self._at}/{self._total}'
    text = ', '.join(filter(None, [done, self._numbers(now)]))
    # The reader of stderr may be gone; the run is not about it.
    with contextlib.suppress(BrokenPipeError):
      print(text, file=sys.stderr, flush=True)

  def _numbers(self, now: float) -> str:
    parts = [f'{key} {value:.4g}' for key, value in self._values.items()]
    if self._rate:
      parts.append(f'{self._rate:.3g} examples/s')
    left = self._left(now)
    if left is not None:
      parts.append(f'{duration(left)} left')
    return ', '.join(parts)

  def _left(self, now: float) -> float | None:
    """Seconds, if what is left takes as long a step as what was done.

    Evaluations count in, as there will be more of them.
    """
    if self._began is None or self._at <= self._began[1]:
      return None
    began, first = self._began
    return (now - began) / (self._at - first) * (self._total - self._at)


_called: dict[str, str] = {}


def call(path: pathlib.Path, name: str) -> None:
  """From now on what is told of a path has this name for it."""
  _called[str(path)] = name


def told(text: str) -> str:
  """A text with the names that paths are called by."""
  for path, name in _called.items():
    text = text.replace(path, name)
  return text


def say(text: str) -> None:
  """Prints to stdout, around the bar if there is one."""
  tqdm.tqdm.write(told(text), file=sys.stdout)
  sys.stdout.flush()


def duration(seconds: float) -> str:
  """3725 -> '1:02:05'."""
  minutes, seconds = divmod(int(seconds + 0.5), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02}:{seconds:02}'
  return f'{minutes}:{seconds:02}'
