"""A profiler's trace of a few steps of a run.

Owns when it begins and ends, and where it lies. What it holds and how it is
looked at is jax.profiler's: TensorBoard's profile page, Perfetto or XProf.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax

# Steps in front of those that are traced: the first ones compile.
_SKIPPED = 2


class Trace:
  """Calls a step, and traces some of its calls; entered around all of them."""

  def __init__(
    self, steps: int, folder: pathlib.Path, *, say: Callable[[str], None]
  ):
    """A trace of so many steps, 0 = none, to `folder`; `say` is told of it."""
    self._steps, self._folder, self._say = steps, folder, say
    self._called, self._runs = 0, False

  def __enter__(self) -> 'Trace':
    return self

  def __call__(self, step: Callable, *args: Any) -> Any:
    if self._steps and self._called == _SKIPPED:
      jax.profiler.start_trace(self._folder)
      self._runs = True
    out = step(*args)
    self._called += 1
    if self._called == _SKIPPED + self._steps:
      self._end(out)
    return out

  def __exit__(self, *_: Any) -> None:
    self._end(())

  def _end(self, out: Any) -> None:
    if not self._runs:
      return
    jax.block_until_ready(out)  # what was dispatched is in the trace
    jax.profiler.stop_trace()
    self._runs = False
    count = self._called - _SKIPPED
    steps = 'step' if count == 1 else 'steps'
    self._say(f'{self._folder}: a trace of {count} {steps}')
