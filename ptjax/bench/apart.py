"""A side of a comparison, held in a process of its own.

Owns that process, what it is asked and what it has in memory. Two frameworks in
one process wait on each other's threads and cut each other's memory to pieces,
which none of their users has. Knows nothing of what is measured.
"""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import pathlib
import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ptjax.config import UserError

_held: list['Here'] = []  # in a side's process, its side


class Here:
  """A side in this process.

  Args:
    call: (side, *what) -> one piece of its work, a function without arguments.
    build: gives the side, of `args`.
  """

  def __init__(
    self, call: Callable[..., Any], build: Callable[..., Any], *args: Any
  ):
    self._call, self._side = call, build(*args)

  def prompt(self) -> Any:
    """What the virtual tokens begin as, [P, D]."""
    return self._side.prompt_PxD

  def answer(self, *what: Any) -> Any:
    """What one piece of work says from the start, as numpy."""
    # A side that was trained says something else.
    self._side.begin()
    return self._side.wait(self._call(self._side, *what)())

  def loop(self, what: tuple, times: int) -> None:
    """That work so many times, all waited for."""
    one = self._call(self._side, *what)
    for value in [one() for _ in range(times)]:
      self._side.wait(value)

  def of(self, *what: Any) -> Callable[[int], None]:
    """`loop` of that work, as `pairs.measure` times it."""
    return functools.partial(self.loop, what)

  def close(self) -> None:
    """Nothing of it is needed any more."""


class Apart(Here):
  """A side in a new process, which ends with `close`.

  What it is built of and asked must be picklable; what is raised there is
  raised here.
  """

  def __init__(self, *args: Any):
    self._process = _new()
    self._ask(_hold, *args)

  def prompt(self) -> Any:
    return self._ask(_do, 'prompt')

  def answer(self, *what: Any) -> Any:
    return self._ask(_do, 'answer', *what)

  def loop(self, what: tuple, times: int) -> None:
    self._ask(_do, 'loop', what, times)

  def close(self) -> None:
    self._process.shutdown()

  def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
    return _done(self._process, function, *args)


def in_a_process(function: Callable, *args: Any) -> Any:
  """function(*args) in a new process, which ends with it.

  Raises:
    UserError: the process ended before.
  """
  with _new() as process:
    return _done(process, function, *args)


def process_peak() -> int:
  """The most bytes this process had in memory."""
  try:
    # Of this program alone; rusage begins with what its parent had.
    lines = pathlib.Path('/proc/self/status').read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith('VmHWM'))
    return int(peak) * 1024
  except OSError:
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _new() -> concurrent.futures.ProcessPoolExecutor:
  return concurrent.futures.ProcessPoolExecutor(
    1, mp_context=multiprocessing.get_context('spawn')
  )


def _done(process: Any, function: Callable, *args: Any) -> Any:
  try:
    return process.submit(function, *args).result()
  except concurrent.futures.process.BrokenProcessPool:
    raise UserError(
      'a process of the benchmark ended before its work did, most likely since '
      'memory ran out; take a smaller model or batch'
    ) from None


@contextlib.contextmanager
def sides(
  held: Callable[..., Here],
  call: Callable[..., Any],
  ours: Callable[[], Any],
  theirs: Callable[[Any], Any] | None,
) -> Iterator[tuple[Here, Here | None]]:
  """Both sides, until they are done with; theirs is built of our prompt."""
  with contextlib.ExitStack() as stack:
    first = held(call, ours)
    stack.callback(first.close)
    second = None
    if theirs is not None:
      second = held(call, theirs, first.prompt())
      stack.callback(second.close)
    yield first, second


def _hold(*args: Any) -> None:
  _held.append(Here(*args))


def _do(name: str, *args: Any) -> Any:
  return getattr(_held[0], name)(*args)
