"""A T5 on rows of real lengths: against PEFT, and against one fixed length.

Owns passes over examples from their text: tokenising, batching and updates, the
order of each side its own, and what share of the positions is padding. Rows of
one length are in `t5`.
"""

import dataclasses
import functools
import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ptjax import assemble, heap, writer
from ptjax import config as config_lib
from ptjax.bench import (
  apart,
  pairs,
  peft_side,
  random_t5,
  t5_sides,
  tables,
  versus,
  versus_tables,
)
from ptjax.config import UserError
from ptjax.data import batch, pipeline, source, tokenizer
from ptjax.tasks import base
from ptjax.tasks.base import Example

TASKS = ('cb', 'rte', 'wic', 'boolq', 'multirc')
LENGTH = 512  # pieces of an input at most; the fixed length of T5X's recipe
REAL = 0.85  # of the positions computed, at least
FIXED = {'cb': 3.0, 'rte': 3.0, 'wic': 3.0}  # times its speed, at least


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is measured.

  Attributes:
    data: a folder of SuperGLUE's files.
    pieces: a folder with T5's tokenizer.
    examples: of each task, drawn at random; 0 = all.
    fixed: whether rows padded to one length are timed too.
  """

  data: str
  pieces: str
  models: tuple[str, ...] = ('small',)
  dtypes: tuple[str, ...] = versus.DTYPES
  batches: tuple[int, ...] = (8, 32)
  tasks: tuple[str, ...] = TASKS
  prompt: int = 100
  examples: int = 256
  fixed: bool = True
  repeats: int = 3


def check(plan: Plan) -> None:
  """Refuses what cannot be measured, before anything is.

  Raises:
    UserError: a name, or a folder, is not there.
  """
  for name in plan.models:
    config_lib.one_of('--shapes', name, tuple(random_t5.SIZES))
  for name in plan.dtypes:
    config_lib.one_of('--dtype', name, versus.DTYPES)
  for name in plan.tasks:
    config_lib.one_of('--tasks', name, TASKS)
  for flag, folder in (('data', plan.data), ('tokenizer', plan.pieces)):
    if not pathlib.Path(folder).is_dir():
      raise UserError(
        f'--{flag}={folder} is no folder; real lengths need the real files: '
        '--data=FOLDER with those of SuperGLUE, --tokenizer=FOLDER with '
        "T5's spiece.model"
      )


def examples(plan: Plan, task: str) -> list[Example]:
  """Those of a task's training set; of its dev set, where that lies alone."""
  config = config_lib.update(config_lib.default(), {'data': plan.data})
  made = base.load(task)
  try:
    split = 'train'
    rows = source.rows(config, made.name, split)
  except UserError:
    split = 'dev'
    rows = source.rows(config, made.name, split)
  found = made.examples(rows, split)
  count = min(plan.examples or len(found), len(found))
  return [found[i] for i in pipeline.permutation(0, size=len(found))[:count]]


def run(
  plan: Plan,
  *,
  peer: Any = None,
  clock: Callable[[], float] = time.perf_counter,
  held: Callable[..., Any] = apart.Apart,
) -> dict[str, Any]:
  """Measures; returns {'missing': a sentence or '', 'rows': see `_row`}.

  Args:
    peer, held: as `versus.run`.
  """
  check(plan)
  missing = '' if peer else peft_side.missing()
  peer = peer or (None if missing else t5_sides.Peft)
  drawn = {task: _drawn(plan, task) for task in plan.tasks}
  rows = []
  with tempfile.TemporaryDirectory(prefix='ptjax-bench-') as room:
    for model, dtype in itertools.product(plan.models, plan.dtypes):
      folder = pathlib.Path(room) / model
      if not folder.exists():
        folder.mkdir()
        random_t5.write(folder, random_t5.SIZES[model])
      ours = functools.partial(_ours, folder, plan, dtype)
      theirs = peer and functools.partial(versus.theirs, peer, folder, dtype)
      with apart.sides(held, _pass, ours, theirs) as sides:
        for task, size in itertools.product(plan.tasks, plan.batches):
          versus.tell(f'{model}, {dtype}, batch {size}: {task}')
          about = {'model': model, 'dtype': dtype, 'batch': size, 'input': task}
          rows.append(about | _row(plan, task, drawn[task], size, sides, clock))
  return {'missing': missing, 'rows': rows}


def _drawn(plan: Plan, task: str) -> list[Example]:
  found, most = examples(plan, task), max(plan.batches)
  if len(found) < most:
    raise UserError(
      f'{task} has {len(found)} examples, fewer than the {most} of a batch; '
      'use --batch or --examples'
    )
  return found


def _ours(folder: pathlib.Path, plan: Plan, dtype: str) -> t5_sides.Ours:
  heap.keep_on_cpu()
  settings = {
    'model': str(folder),
    'tokenizer': plan.pieces,
    'dtype': dtype,
    'method.length': plan.prompt,
    'method.init': 'vocabulary',
  }
  made = assemble.parts(config_lib.update(config_lib.default(), settings))
  return t5_sides.Ours(made)


def _pass(
  side: Any,
  plan: Plan,
  found: Sequence[Example],
  size: int,
  buckets: tuple[int, ...] = (),
) -> Callable[[], Any]:
  """One over all examples, whose batches each side makes itself."""
  if not isinstance(side, t5_sides.Ours):
    how = {'size': size, 'length': LENGTH}
    return functools.partial(side.pass_over, found, plan.pieces, **how)

  def one():
    made = batches(found, side.tokenizer, size=size, buckets=buckets)
    return side.pass_over(made)

  return one


def _row(
  plan: Plan,
  task: str,
  found: Sequence[Example],
  size: int,
  sides: tuple[Any, Any],
  clock: Callable,
) -> dict[str, Any]:
  """One task in batches of one size.

  'ours' and 'theirs' are seconds of a pass over 'examples'; 'times' and
  'fixed_times' what PEFT and the fixed length take of them, pair by pair;
  'real' the shares of positions that are a piece or a virtual token.
  """
  ours, theirs = sides
  pieces = tokenizer.load(plan.pieces)
  lengths = [len(row.inputs) for row in _encode(found, pieces)]
  out = {
    'work': 'pass',
    'prompt': plan.prompt,
    'examples': len(found) // size * size,
    'pieces': float(np.mean(lengths)),
    'load': versus.load(),
    'at_least': 1.5 if jax.default_backend() == 'cpu' else 2.0,
    'real': _shares(plan, found, lengths, size, pieces),
  }

  work = plan, found, size
  mine = ours.of(*work)
  timing = {'repeats': plan.repeats, 'clock': clock, 'least': 0.0}
  other = theirs.of(*work) if theirs else mine
  pair = pairs.measure(mine, other, **timing)
  out |= versus.seconds_of('ours', pair.first)
  if theirs:
    out |= versus.seconds_of('theirs', pair.second)
    out['times'] = dataclasses.asdict(pair.ratio)
  if plan.fixed:
    fixed = ours.of(*work, (LENGTH,))
    pair = pairs.measure(mine, fixed, **timing | {'repeats': 1})
    out['fixed_times'] = pair.ratio.median
    out['fixed_at_least'] = FIXED.get(task)
  return out


def _encode(
  found: Sequence[Example], pieces: tokenizer.Tokenizer
) -> list[batch.Encoded]:
  return batch.encode(found, pieces, input_length=LENGTH)[0]


def batches(
  found: Sequence[Example],
  pieces: tokenizer.Tokenizer,
  *,
  size: int,
  buckets: tuple[int, ...] = (),
) -> Iterator[batch.Batch]:
  """The batches of a run's first pass, from text; see `data.split`."""
  encoded = _encode(found, pieces)
  buckets = buckets or batch.choose_buckets(
    [len(row.inputs) for row in encoded], max_length=LENGTH, rows=size
  )
  made = pipeline.train_batches(
    encoded, batch_size=size, buckets=buckets, seed=0
  )
  return itertools.islice(made, len(found) // size)


def _shares(
  plan: Plan,
  found: Sequence[Example],
  lengths: Sequence[int],
  size: int,
  pieces: tokenizer.Tokenizer,
) -> dict[str, float]:
  """Of the encoder's positions: 'ours', of the longest of a batch in random
  order 'longest', and 'fixed'."""
  made = list(batches(found, pieces, size=size))
  real = sum(int(each['input_mask'].sum()) for each in made)
  mixed = np.array(lengths)[: len(lengths) // size * size].reshape(-1, size)
  front, rows = plan.prompt, len(made) * size

  def share(real: int, positions: int) -> float:
    return (real + front * rows) / (positions + front * rows)

  return {
    'ours': share(real, sum(each['input_mask'].size for each in made)),
    'longest': share(mixed.sum(), size * mixed.max(axis=1).sum()),
    'fixed': share(real, LENGTH * rows),
  }


_HEAD = [
  *('model', 'dtype', 'batch', 'task', 'examples', 'pieces'),
  *('ptjax, examples/s', 'PEFT', 'times as fast', 'at least', ''),
  *(f'times the speed of {LENGTH}', 'at least', ''),
  *('real or prompt', 'longest of batch', f'fixed {LENGTH}', 'load'),
]


def tell(found: dict[str, Any]) -> Iterator[str]:
  """A table and sentences; ranges are minimum, median, maximum."""
  yield tables.head(found)
  if found['missing']:
    yield found['missing']
  rows = found['rows']
  yield writer.table([_HEAD, *map(_told, rows)])
  low = min(rows, key=lambda row: row['real']['ours'])
  met = 'met' if low['real']['ours'] >= REAL else 'missed'
  yield (
    f'at least {low["real"]["ours"]:.3f} of the positions are real or prompt '
    f'({low["input"]}, batch {low["batch"]}); aim {REAL}: {met}'
  )


def _told(row: dict[str, Any]) -> list[str]:
  cells = [str(row[key]) for key in ('model', 'dtype', 'batch', 'input')]
  cells += [str(row['examples']), f'{row["pieces"]:.0f}']
  cells.append(f'{row["examples"] / row["ours"]["median"]:.1f}')
  if 'times' in row:
    times = pairs.Range(**row['times'])
    cells.append(f'{row["examples"] / row["theirs"]["median"]:.1f}')
    cells += [
      times.text(),
      *versus_tables.judged(times.median, row['at_least']),
    ]
  else:
    cells += [''] * 4
  if 'fixed_times' in row:
    fixed = row['fixed_times']
    cells += [
      f'{fixed:.2f}',
      *versus_tables.judged(fixed, row['fixed_at_least']),
    ]
  else:
    cells += [''] * 3
  cells += [f'{row["real"][k]:.3f}' for k in ('ours', 'longest', 'fixed')]
  return [*cells, '–' if row['load'] is None else f'{row["load"]:.1f}']
