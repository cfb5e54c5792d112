"""ptjax against a peer, each side in turn in one run: time, memory, answers.

Owns what every comparison does: the sides are built once for a model, each in
a process of its own, say the same, are timed pair by pair, and have their peaks
of memory taken in new ones. What is compared, and how a side is asked, says a
`Comparison`.
"""

import abc
import dataclasses
import functools
import itertools
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ptjax import heap
from ptjax.bench import apart, operations, pairs, peft_side
from ptjax.config import UserError, one_of

DTYPES = ('float32', 'bfloat16')


@dataclasses.dataclass(frozen=True, order=True)
class Case:
  """One model in one dtype at one size of batch."""

  model: str
  dtype: str
  prompt: int  # virtual tokens
  batch: int  # rows
  input: int  # pieces, the same for all rows


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is measured."""

  cases: tuple[Case, ...]
  works: tuple[str, ...]
  repeats: int = 5
  memory: bool = True  # of training, each side in a process of its own
  times: bool = True  # without, the two sides are never there together


def plan(
  asked: dict[str, Sequence[Any]],
  *,
  usual: dict[str, Sequence[Any]],
  works: Sequence[str],
  sizes: dict[str, Any],
  **rest: Any,
) -> Plan:
  """What is asked for; where nothing is, what is usual.

  Args:
    asked, usual: models, dtypes, prompts, batches, inputs and works.
    works: all that there are.
    sizes: of all models that there are.
    rest: the other fields of a plan.

  Raises:
    UserError: what is asked for is none of these.
  """
  found = {key: tuple(asked.get(key) or usual[key]) for key in usual}
  for flag, key, known in (
    ('--shapes', 'models', sizes),
    ('--dtype', 'dtypes', DTYPES),
    ('--works', 'works', works),
  ):
    for name in found[key]:
      one_of(flag, name, tuple(known))
  trains = any(work.startswith('train') for work in found['works'])
  if not (rest.get('times', True) or trains and rest.get('memory', True)):
    raise UserError(
      '--no-times leaves the memory of training alone: leave out --no-memory, '
      'and have a work of training'
    )
  axes = ('models', 'dtypes', 'prompts', 'batches', 'inputs')
  cases = itertools.product(*(found[key] for key in axes))
  return Plan(tuple(itertools.starmap(Case, cases)), found['works'], **rest)


class Comparison(abc.ABC):
  """What is compared; a side is what `ours` and `peer` give.

  Attributes:
    peer: as `peft_side.Side`.
    memory: at most so much of the peer's peak is aimed at.
  """

  peer: Callable[..., Any]
  memory: float

  @abc.abstractmethod
  def sizes(self, model: str) -> Any:
    """The configuration of a model's network."""

  @abc.abstractmethod
  def write(self, folder: pathlib.Path, model: str) -> None:
    """A model of random weights, as a folder that both sides read."""

  @abc.abstractmethod
  def ours(self, folder: pathlib.Path, case: Case) -> Any:
    """ptjax's side; both begin with its `prompt_PxD`."""

  @abc.abstractmethod
  def call(self, side: Any, case: Case, work: str) -> Callable[[], Any]:
    """One piece of work as a function without arguments."""

  @abc.abstractmethod
  def count(self, case: Case, work: str) -> tuple[int, int]:
    """Operations of one call, (ptjax's, the peer's)."""

  @abc.abstractmethod
  def at_least(self, platform: str, case: Case, work: str) -> float | None:
    """How many times the peer's speed is aimed at; None = not said."""

  @abc.abstractmethod
  def compare(self, case: Case, work: str, ours: Any, theirs: Any) -> float:
    """By how much the sides differ, relatively; of tokens, the share.

    Raises:
      RuntimeError: by more than rounding; see `agreed`.
    """


def run(
  comparison: Comparison,
  plan: Plan,
  *,
  peer: Any = None,
  clock: Callable[[], float] = time.perf_counter,
  least: float = pairs.LEAST,
  held: Callable[..., Any] = apart.Apart,
) -> dict[str, Any]:
  """Measures; returns {'missing': a sentence or '', 'rows': see `_row`}.

  Args:
    peer: what stands for PEFT's side, a class with the methods of
      `comparison.peer`.
    held: where a side is, as `apart.Here` or `apart.Apart`.

  Raises:
    RuntimeError: the two sides do not say the same.
  """
  missing = '' if peer else peft_side.missing()
  peer = peer or (None if missing else comparison.peer)
  timing = {'repeats': plan.repeats, 'clock': clock, 'least': least}
  rows = []
  with tempfile.TemporaryDirectory(prefix='ptjax-bench-') as room:
    groups = itertools.groupby(
      plan.cases, lambda case: (case.model, case.dtype, case.prompt)
    )
    for (name, *_), cases in groups:
      asked = list(itertools.product(cases, plan.works))
      folder = pathlib.Path(room) / name
      if not folder.exists():
        folder.mkdir()
        comparison.write(folder, name)
      found = [{**dataclasses.asdict(c), 'work': work} for c, work in asked]
      if plan.memory:
        for row, (case, work) in zip(found, asked):
          if work.startswith('train'):
            row |= _memory(comparison, folder, case, work, peer)
      if plan.times:
        first, _ = asked[0]
        mine = functools.partial(ours, comparison, folder, first)
        other = peer and functools.partial(theirs, peer, folder, first.dtype)
        with apart.sides(held, comparison.call, mine, other) as sides:
          for row, (case, work) in zip(found, asked):
            tell(f'{words(case)}: {work}')
            row |= _times(comparison, case, work, sides, timing)
      rows += found
  return {'missing': missing, 'rows': rows}


def ours(comparison: Comparison, folder: pathlib.Path, case: Case) -> Any:
  """Our side, in a process that is its own."""
  heap.keep_on_cpu()
  return comparison.ours(folder, case)


def theirs(
  peer: Any, folder: pathlib.Path, dtype: str, prompt_PxD: np.ndarray
) -> Any:
  """The peer's side, on the device that ours is on."""
  return peer(
    folder,
    dtype=dtype,
    prompt_PxD=prompt_PxD,
    device='cpu' if jax.default_backend() == 'cpu' else 'cuda',
  )


def words(case: Case) -> str:
  """A case for a person."""
  return (
    f'{case.model}, {case.dtype}, batch {case.batch}, input {case.input}, '
    f'prompt {case.prompt}'
  )


def tell(text: str) -> None:
  """What is measured now, beside the tables."""
  print(text, file=sys.stderr, flush=True)


def load() -> float | None:
  """Of the machine, in programs that want a core."""
  return os.getloadavg()[0] if hasattr(os, 'getloadavg') else None


def _times(
  comparison: Comparison,
  case: Case,
  work: str,
  sides: tuple[Any, Any],
  timing: dict[str, Any],
) -> dict[str, Any]:
  """One work of one case.

  'ours' and 'theirs' are seconds a call, 'times' their ratio, pair by pair;
  'same' is by how much the two answers differ; 'operations' and 'rate', a
  second, as `operations` counts them; 'load' that of the machine.
  """
  out = {'load': load()}
  out['at_least'] = comparison.at_least(jax.default_backend(), case, work)
  out['operations'], out['theirs_operations'] = comparison.count(case, work)
  out['rate'] = operations.rate(case.dtype, clock=timing['clock'])
  mine, other = (side and side.of(case, work) for side in sides)
  if other is None:
    seconds = pairs.measure(mine, mine, **timing).first
    return out | seconds_of('ours', seconds)
  answers = [side.answer(case, work) for side in sides]
  out['same'] = comparison.compare(case, work, *answers)
  found = pairs.measure(mine, other, **timing)
  return {
    **out,
    **seconds_of('ours', found.first),
    **seconds_of('theirs', found.second),
    'times': dataclasses.asdict(found.ratio),
  }


def seconds_of(name: str, values: Sequence[float]) -> dict[str, Any]:
  """Their range, under this name."""
  return {name: dataclasses.asdict(pairs.Range.of(list(values)))}


def relative(ours: Any, theirs: Any) -> float:
  """By how much numbers differ at most, relatively."""
  ours, theirs = np.ravel(ours), np.ravel(theirs)
  return float(np.max(np.abs(ours - theirs) / np.abs(theirs)))


def other_tokens(ours: Any, theirs: Any) -> float:
  """The share of tokens that are not the other side's."""
  theirs = np.asarray(theirs)
  return float(1 - (np.asarray(ours).reshape(theirs.shape) == theirs).mean())


def agreed(
  found: float, case: Case, work: str, *, most: float, answers: tuple
) -> float:
  """What was found, if it is at most that.

  Raises:
    RuntimeError: it is more, or not a number: no ratio would mean anything.
  """
  if not found <= most:
    raise RuntimeError(
      f'{words(case)}, {work}: the sides differ by {found:.2g}, more than '
      f'{most:.2g}: {answers[0]} here, {answers[1]} there'
    )
  return found


def _memory(
  comparison: Comparison,
  folder: pathlib.Path,
  case: Case,
  work: str,
  peer: Any,
) -> dict[str, Any]:
  """Peak bytes of each side, in a process that runs nothing else."""
  tell(f'{words(case)}: memory of {work}')
  given = comparison, folder, case, work
  out = {'memory_at_most': comparison.memory}
  out['bytes'] = apart.in_a_process(_peak, *given, None)
  if peer is not None:
    out['theirs_bytes'] = apart.in_a_process(_peak, *given, peer)
  return out


def _peak(
  comparison: Comparison,
  folder: pathlib.Path,
  case: Case,
  work: str,
  peer: Any,
) -> int:
  """Of three calls, with all that a process needs for them."""
  if peer is None:
    side = ours(comparison, folder, case)
  else:
    width = comparison.sizes(case.model).d_model
    prompt_PxD = np.zeros((case.prompt, width), np.float32)
    side = theirs(peer, folder, case.dtype, prompt_PxD)
  one = comparison.call(side, case, work)
  for _ in range(3):
    side.wait(one())
  return side.peak_bytes() or apart.process_peak()
