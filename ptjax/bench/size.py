"""What a training step costs by size: prompt length, input length, members.

Owns which size grows while the others stay. Time and memory of one step, by the
clock and by the compiler's word; there is no other side. The step and its rows
are those of `population`.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ptjax import config as config_lib
from ptjax import parts, writer
from ptjax.bench import pairs, population, shapes, tables, versus
from ptjax.bench.population import Case

PROMPTS = (1, 20, 50, 100, 200, 300)
INPUTS = (64, 128, 256, 512)
MEMBERS = (1, 2, 5, 10, 20)
AXES = {
  'prompt': 'virtual tokens',
  'input': 'pieces of input',
  'members': 'members of a population',
}


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is measured: each axis by itself, the rest as in the middle."""

  models: tuple[str, ...] = ('small',)
  prompts: tuple[int, ...] = PROMPTS
  inputs: tuple[int, ...] = INPUTS
  members: tuple[int, ...] = MEMBERS
  batch: int = 8  # rows a member
  middle: tuple[int, int] = (100, 128)  # virtual tokens, pieces
  repeats: int = 5


def cases(plan: Plan) -> Iterator[tuple[str, Case, int]]:
  """(what grows, the case, members) of all that is measured."""
  prompt, length = plan.middle
  for model in plan.models:
    for one in plan.prompts:
      yield 'prompt', Case(model, plan.batch, length, one), 1
    for one in plan.inputs:
      yield 'input', Case(model, plan.batch, one, prompt), 1
    for one in plan.members:
      yield 'members', Case(model, plan.batch, length, prompt), one


def run(
  plan: Plan,
  *,
  clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
  """Measures; 'rows' have 'seconds' of a step, and its 'bytes'."""
  for name in plan.models:
    config_lib.one_of('--shapes', name, shapes.NAMES)
  config = config_lib.miniature(config_lib.default())
  made = functools.cache(functools.partial(shapes.build, config=config))
  found, rows = {}, []
  for axis, case, members in cases(plan):
    if (case, members) not in found:
      versus.tell(f'{population.words(case)}: {members} members')
      sized = population.sized(made(case.model), case, members=members, steps=1)
      found[case, members] = _measured(sized, plan.repeats, clock)
    about = {**dataclasses.asdict(case), 'axis': axis, 'members': members}
    rows.append(about | found[case, members])
  return {'rows': rows}


def _measured(
  made: parts.Parts, repeats: int, clock: Callable[[], float]
) -> dict[str, Any]:
  side = population.Side(made)
  side.steps(2)  # compiles, and warms up
  return {
    'dtype': np.dtype(made.loaded.model.dtype).name,
    'bytes': sum(side.memory() or (0,)),
    'load': versus.load(),
    **versus.seconds_of('seconds', _timed(side, repeats, clock)),
  }


def _timed(
  side: population.Side, repeats: int, clock: Callable[[], float]
) -> Sequence[float]:
  found = []
  for _ in range(repeats):
    began = clock()
    side.steps(1)
    found.append(clock() - began)
  return found


_HEAD = ['model', 'dtype', 'grows', 'prompt', 'input', 'batch', 'members']
_HEAD += ['a step, ms', 'GiB', 'load']


def tell(found: dict[str, Any]) -> Iterator[str]:
  """A table; each range is minimum, median, maximum."""
  yield tables.head(found)
  yield writer.table([_HEAD, *map(_told, found['rows'])])


def _told(row: dict[str, Any]) -> list[str]:
  return [
    *(row['model'], row['dtype'], row['axis']),
    *(str(row[key]) for key in ('prompt', 'input', 'batch', 'members')),
    pairs.Range(**row['seconds']).text(1e3),
    f'{row["bytes"] / tables.GIB:.3f}' if row['bytes'] else '–',
    '–' if row['load'] is None else f'{row["load"]:.1f}',
  ]


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
  """Time above, memory below, a column for each axis."""
  grid = figure.subplots(2, len(AXES), sharex='col', squeeze=False)
  for column, (axis, words) in enumerate(AXES.items()):
    above, below = grid[:, column]
    for model in dict.fromkeys(row['model'] for row in rows):
      some = [r for r in rows if (r['axis'], r['model']) == (axis, model)]
      if not some:
        continue
      x = [row[axis] for row in some]
      times = [[1e3 * v for v in row['seconds'].values()] for row in some]
      low, middle, high = np.transpose(times)
      above.errorbar(x, middle, [middle - low, high - middle], marker='o')
      sizes = [row['bytes'] / tables.GIB for row in some]
      below.plot(x, sizes, marker='o', label=model)
    above.set_ylim(bottom=0)
    below.set_ylim(bottom=0)
    below.set_xlabel(words)
  grid[0, 0].set_ylabel('a step, ms')
  grid[1, 0].set_ylabel('GiB, weights included')
  grid[1, 0].legend(fontsize=6)
