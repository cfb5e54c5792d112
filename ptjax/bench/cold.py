"""From a new process to the first update, against PEFT: seconds, peak memory.

Owns what a start is: imports, weights from files, a prompt in front of them,
and one update with what it compiles. What each side is stands in `t5_sides` and
`t5_peft`; compilation by itself in `compiling`.
"""

import dataclasses
import functools
import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from ptjax import config as config_lib
from ptjax import writer
from ptjax.bench import (
  apart,
  pairs,
  peft_side,
  random_t5,
  t5,
  t5_peft,
  tables,
  versus,
)
from ptjax.bench.versus import Case

# Of ours: nothing compiled is there yet, or all that is kept, from the start
# before it.
STARTS = ('first', 'second')


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is started: T5 1.1 of random weights, base's are a file of 1 GB."""

  models: tuple[str, ...] = ('base',)
  dtypes: tuple[str, ...] = versus.DTYPES
  batch: int = 8
  input: int = 128
  prompt: int = 100
  repeats: int = 3


def run(
  plan: Plan,
  *,
  clock: Callable[[], float] = time.perf_counter,
  start: Callable[..., int] = apart.in_a_process,
) -> dict[str, Any]:
  """Measures; 'rows' have seconds and bytes of 'first', 'second', 'theirs'.

  Args:
    start: does a function with arguments in a new process.
  """
  for name in plan.models:
    config_lib.one_of('--shapes', name, tuple(random_t5.SIZES))
  for name in plan.dtypes:
    config_lib.one_of('--dtype', name, versus.DTYPES)
  missing, rows = peft_side.missing(), []
  for model in plan.models:
    with tempfile.TemporaryDirectory(prefix='ptjax-bench-') as room:
      folder = pathlib.Path(room) / 'model'
      folder.mkdir()
      random_t5.write(folder, random_t5.SIZES[model])
      size = sum(path.stat().st_size for path in folder.iterdir())
      for dtype in plan.dtypes:
        case = Case(model, dtype, plan.prompt, plan.batch, plan.input)
        versus.tell(f'{versus.words(case)}: starts')
        row = {**dataclasses.asdict(case), 'load': versus.load()}
        row['file_bytes'] = size
        how = {'clock': clock, 'start': start, 'compared': not missing}
        rows.append(row | _starts(plan, case, folder, **how))
  return {'missing': missing, 'rows': rows}


def _starts(
  plan: Plan,
  case: Case,
  folder: pathlib.Path,
  *,
  compared: bool,
  clock: Callable[[], float],
  start: Callable[..., int],
) -> dict[str, Any]:
  """Each kind of start in turn, `plan.repeats` times."""
  found: dict[str, list[tuple[float, int]]] = {}
  for time_ in range(plan.repeats):
    cache = folder.parent / f'{case.dtype}-{time_}'
    kinds = {kind: (ours, folder, case, cache) for kind in STARTS}
    if compared:
      how = {'dtype': case.dtype, 'prompt': case.prompt}
      theirs = functools.partial(t5_peft.first_update, **how)
      kinds['theirs'] = (theirs, folder, *_rows(case))
    for kind, what in kinds.items():
      began = clock()
      peak = start(*what)
      found.setdefault(kind, []).append((clock() - began, peak))
  out = {}
  for kind, each in found.items():
    seconds, peaks = zip(*each)
    out |= versus.seconds_of(kind, seconds)
    out[f'{kind}_bytes'] = max(peaks)
  return out


def ours(folder: pathlib.Path, case: Case, cache: pathlib.Path) -> int:
  """One update of ours in this process; the most bytes it had in memory."""
  jax.config.update('jax_compilation_cache_dir', str(cache))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  side = versus.ours(t5.T5(), folder, case)
  side.wait(side.train(*_rows(case)))
  return apart.process_peak()


def _rows(case: Case) -> tuple[np.ndarray, np.ndarray]:
  """(ids_BxL, targets_BxT) of this case."""
  shapes = (case.batch, case.input), (case.batch, t5.TARGET)
  inputs_BxL, targets_BxT = (np.full(s, 5, np.int32) for s in shapes)
  return inputs_BxL, targets_BxT


_HEAD = ['model', 'GB', 'dtype', 'ptjax, s', 'again, s', 'PEFT, s']
_HEAD += ['times as fast', 'again', 'ptjax, GiB', 'again, GiB', 'PEFT, GiB']
_HEAD += ['load']


def tell(found: dict[str, Any]) -> Iterator[str]:
  """A table; each range is minimum, median, maximum."""
  yield tables.head(found)
  if found['missing']:
    yield found['missing']
  yield writer.table([_HEAD, *map(_told, found['rows'])])


def _told(row: dict[str, Any]) -> list[str]:
  kinds = (*STARTS, 'theirs')
  there = [kind for kind in kinds if kind in row]
  seconds = {kind: pairs.Range(**row[kind]) for kind in there}
  cells = [row['model'], f'{row["file_bytes"] / 1e9:.2f}', row['dtype']]
  cells += [seconds[k].text() if k in seconds else '' for k in kinds]
  for kind in STARTS:
    cells.append('')
    if 'theirs' in seconds:
      cells[-1] = f'{seconds["theirs"].median / seconds[kind].median:.2f}'
  for kind in kinds:
    held = row.get(f'{kind}_bytes')
    cells.append(f'{held / tables.GIB:.2f}' if held else '')
  return [*cells, '–' if row['load'] is None else f'{row["load"]:.1f}']


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
  """Seconds of each start."""
  axes = figure.subplots()
  names = {'first': 'ptjax', 'second': 'ptjax again', 'theirs': 'PEFT'}
  bars = [
    (f'{row["model"]}, {row["dtype"]}, {name}', row[kind]['median'])
    for row, (kind, name) in itertools.product(rows, names.items())
    if kind in row
  ]
  axes.barh(*zip(*bars))
  axes.invert_yaxis()
  axes.set_xlabel('seconds until the first update')
