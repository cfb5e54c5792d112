"""A T5 on rows of real lengths: against PEFT, and against one fixed length.

Owns which examples, what is asked of them and what share of the positions is
padding; what each side does is in `real_sides`. Rows of one length are in `t5`.
"""

import dataclasses
import functools
import itertools
import pathlib
import re
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
  operations,
  pairs,
  peft_side,
  random_t5,
  real_sides,
  t5,
  tables,
  versus,
  versus_tables,
)
from ptjax.config import UserError
from ptjax.data import pipeline, source, tokenizer
from ptjax.data.batch import Encoded
from ptjax.models.t5 import T5Config
from ptjax.tasks import base
from ptjax.tasks.base import Example

TASKS = ('cb', 'rte', 'wic', 'boolq', 'multirc')
# Passes: of updates, of the likeliest choices, of greedy text, which is one of
# the choices, and of the same text where no choices are known.
WORKS = ('train', 'rank', 'generate', 'free')
# Times PEFT's speed aimed at, on a CPU and on a GPU.
TIMES = {'train': (1.5, 2.0)} | dict.fromkeys(WORKS[1:], (2.0, 3.0))
# Answers that may differ where near ties go either way.
OTHER = {'float32': 0.02, 'bfloat16': 1.0}
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
  works: tuple[str, ...] = WORKS
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
  for name in plan.works:
    config_lib.one_of('--works', name, WORKS)
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
  peer = peer or (None if missing else real_sides.Peft)
  drawn = {task: _drawn(plan, task) for task in plan.tasks}
  rows = []
  for model, task in itertools.product(plan.models, plan.tasks):
    with tempfile.TemporaryDirectory(prefix='ptjax-bench-') as room:
      folder = pathlib.Path(room)
      _write(folder, plan, model, drawn[task])
      for dtype in plan.dtypes:
        ours = functools.partial(_ours, folder, plan, dtype)
        theirs = peer and functools.partial(versus.theirs, peer, folder, dtype)
        with apart.sides(held, _pass, ours, theirs) as sides:
          for size, work in itertools.product(plan.batches, plan.works):
            versus.tell(f'{model}, {dtype}, batch {size}: {task}, {work}')
            about = {'model': model, 'dtype': dtype, 'batch': size}
            about |= {'input': task, 'work': work}
            rows.append(about | _row(plan, about, drawn[task], sides, clock))
  return {'missing': missing, 'rows': rows}


def _drawn(plan: Plan, task: str) -> list[Example]:
  found, most = examples(plan, task), max(plan.batches)
  if len(found) < most:
    raise UserError(
      f'{task} has {len(found)} examples, fewer than the {most} of a batch; '
      'use --batch or --examples'
    )
  return found


def _write(
  folder: pathlib.Path, plan: Plan, model: str, found: Sequence[Example]
) -> None:
  """A model that says one of the task's labels to everything."""
  pieces = tokenizer.load(plan.pieces)
  labels = dict.fromkeys(text for row in found for text in row.choices)
  answers = [[*pieces.encode(text), pieces.eos_id] for text in labels]
  random_t5.write(folder, random_t5.SIZES[model], answers=answers)


def _ours(folder: pathlib.Path, plan: Plan, dtype: str) -> real_sides.Ours:
  heap.keep_on_cpu()
  settings = {
    'model': str(folder),
    'tokenizer': plan.pieces,
    'dtype': dtype,
    'method.length': plan.prompt,
    'method.init': 'vocabulary',
  }
  made = assemble.parts(config_lib.update(config_lib.default(), settings))
  return real_sides.Ours(made)


def _pass(
  side: Any,
  plan: Plan,
  found: Sequence[Example],
  work: str,
  size: int,
  length: int = 0,
) -> Callable[[], Any]:
  """One over all examples, from text; `length` of ours, 0 = as a run's."""
  how = {'size': size}
  if work == 'free':
    found = [dataclasses.replace(row, choices=()) for row in found]
    work = 'generate'
  if isinstance(side, real_sides.Ours):
    if work == 'train':
      how['buckets'] = (length,) if length else ()
      return functools.partial(side.train_over, found, **how)
    return functools.partial(side.answers_over, found, by=work, **how)
  if work == 'generate':
    made = real_sides.split(found, tokenizer.load(plan.pieces), size=size)
    how['count'] = made.target_length
  one = getattr(side, f'{work}_over')
  return functools.partial(one, found, plan.pieces, **how)


def _row(
  plan: Plan,
  about: dict[str, Any],
  found: Sequence[Example],
  sides: tuple[Any, Any],
  clock: Callable,
) -> dict[str, Any]:
  """One work on one task in batches of one size.

  'ours' and 'theirs' are seconds of a pass over 'examples'; 'times' and
  'fixed_times' what PEFT and the fixed length take of them, pair by pair;
  'same' the share of answers that differ; 'real' the shares of positions that
  are a piece or a virtual token; 'operations' those of `least`, 'rate' a second
  of one large product.
  """
  size, work = about['batch'], about['work']
  ours, theirs = sides
  pieces = tokenizer.load(plan.pieces)
  encoded = real_sides.encode(found, pieces)
  lengths = [len(row.inputs) for row in encoded]
  training = work == 'train'
  out = {
    'prompt': plan.prompt,
    'examples': len(found) // size * size if training else len(found),
    'pieces': float(np.mean(lengths)),
    'load': versus.load(),
    'at_least': TIMES[work][jax.default_backend() != 'cpu'],
    'rate': operations.rate(about['dtype'], clock=clock),
  }
  config = random_t5.SIZES[about['model']]
  computed = encoded[: out['examples']]
  out['operations'] = least(config, computed, work, prompt=plan.prompt)
  if training:
    out['real'] = _shares(plan, found, lengths, size, pieces)

  what = plan, found, work, size
  mine = ours.of(*what)
  timing = {'repeats': plan.repeats, 'clock': clock, 'least': 0.0}
  if theirs and not training:
    out['same'] = _differ(about, ours.answer(*what), theirs.answer(*what))
  pair = pairs.measure(mine, theirs.of(*what) if theirs else mine, **timing)
  out |= versus.seconds_of('ours', pair.first)
  if theirs:
    out |= versus.seconds_of('theirs', pair.second)
    out['times'] = dataclasses.asdict(pair.ratio)
  if plan.fixed and training:
    fixed = ours.of(*what, real_sides.LENGTH)
    pair = pairs.measure(mine, fixed, **timing | {'repeats': 1})
    out['fixed_times'] = pair.ratio.median
    out['fixed_at_least'] = FIXED.get(about['input'])
  return out


def least(
  config: T5Config, rows: Sequence[Encoded], work: str, *, prompt: int
) -> int:
  """Operations that a pass must take: no padding, and each answer once."""
  cost = t5.train if work == 'train' else sum
  total = 0
  for row in rows:
    front = prompt + len(row.inputs)
    total += cost(t5.encoder(config, 1, front))
    for answer in row.choices if work == 'rank' else [row.targets]:
      how = config, 1, front, len(answer)
      total += min(cost(t5.decoder(*how, absorbed=a)) for a in (True, False))
  return total


def _differ(
  about: dict[str, Any], ours: Sequence[str], theirs: Sequence[str]
) -> float:
  """The share of answers that are not the other side's.

  Raises:
    RuntimeError: more than near ties explain: no ratio would mean anything.
  """
  other = [
    pair
    for pair in zip(ours, theirs, strict=True)
    if _letters(pair[0]) != _letters(pair[1])
  ]
  share = len(other) / len(ours)
  if share > OTHER[about['dtype']]:
    raise RuntimeError(
      f'{about}: {share:.2f} of the answers differ, as {other[0][0]!r} here '
      f'from {other[0][1]!r} there'
    )
  return share


def _letters(text: str) -> str:
  """Without pieces that are no words, which each side writes in its way."""
  return re.sub(r'<\w+>|\W', '', text)


def _shares(
  plan: Plan,
  found: Sequence[Example],
  lengths: Sequence[int],
  size: int,
  pieces: tokenizer.Tokenizer,
) -> dict[str, float]:
  """Of the encoder's positions: 'ours', of the longest of a batch in random
  order 'longest', and 'fixed'."""
  split = real_sides.split(found, pieces, size=size)
  made = list(real_sides.first_epoch(split, size=size))
  real = sum(int(each['input_mask'].sum()) for each in made)
  mixed = np.array(lengths)[: len(lengths) // size * size].reshape(-1, size)
  front, rows = plan.prompt, len(made) * size

  def share(real: int, positions: int) -> float:
    return (real + front * rows) / (positions + front * rows)

  return {
    'ours': share(real, sum(each['input_mask'].size for each in made)),
    'longest': share(mixed.sum(), size * mixed.max(axis=1).sum()),
    'fixed': share(real, real_sides.LENGTH * rows),
  }


_HEAD = [
  *('model', 'dtype', 'batch', 'task', 'work', 'examples', 'pieces'),
  *('ptjax, examples/s', 'PEFT', 'times as fast', 'at least', ''),
  *('at the rate', 'differ'),
  *(f'times the speed of {real_sides.LENGTH}', 'at least', ''),
  *('real or prompt', 'longest of batch'),
  *(f'fixed {real_sides.LENGTH}', 'load'),
]


def tell(found: dict[str, Any]) -> Iterator[str]:
  """A table and sentences; ranges are minimum, median, maximum."""
  yield tables.head(found)
  if found['missing']:
    yield found['missing']
  rows = found['rows']
  yield writer.table([_HEAD, *map(_told, rows)])
  yield from versus_tables.rates(rows)
  yield from _padding([row for row in rows if 'real' in row])


def _padding(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
  if not rows:
    return
  low = min(rows, key=lambda row: row['real']['ours'])
  met = 'met' if low['real']['ours'] >= REAL else 'missed'
  yield (
    f'at least {low["real"]["ours"]:.3f} of the positions are real or prompt '
    f'({low["input"]}, batch {low["batch"]}); aim {REAL}: {met}'
  )


def _told(row: dict[str, Any]) -> list[str]:
  keys = ('model', 'dtype', 'batch', 'input', 'work', 'examples')
  cells = [*(str(row[key]) for key in keys), f'{row["pieces"]:.0f}']
  cells.append(f'{row["examples"] / row["ours"]["median"]:.1f}')
  if 'times' in row:
    times = pairs.Range(**row['times'])
    cells.append(f'{row["examples"] / row["theirs"]["median"]:.1f}')
    cells += [
      times.text(),
      *versus_tables.judged(times.median, row['at_least']),
      f'{versus_tables.at_the_rate(row):.2f}',
      f'{row["same"]:.3f}' if 'same' in row else '',
    ]
  else:
    cells += [''] * 6
  if 'fixed_times' in row:
    fixed = row['fixed_times']
    cells += [
      f'{fixed:.2f}',
      *versus_tables.judged(fixed, row['fixed_at_least']),
    ]
  else:
    cells += [''] * 3
  shares = row.get('real')
  names = ('ours', 'longest', 'fixed')
  cells += [f'{shares[key]:.3f}' if shares else '' for key in names]
  return [*cells, '–' if row['load'] is None else f'{row["load"]:.1f}']
