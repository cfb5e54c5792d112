"""What a benchmark leaves: tables and sentences, JSON, a picture.

Owns the words. Knows nothing of how anything was measured.
"""

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ptjax import files, workdir, writer
from ptjax.bench import population
from ptjax.bench.pairs import Range

GIB = 2**30
_CASE = ('model', 'dtype', 'batch', 'input', 'prompt', 'members')


def machine() -> dict[str, Any]:
  """What the numbers hang on."""
  device = jax.devices()[0]
  return {
    'platform': device.platform,
    'device': device.device_kind,
    'cores': len(os.sched_getaffinity(0))
    if hasattr(os, 'sched_getaffinity')
    else os.cpu_count(),
    'load': os.getloadavg()[0] if hasattr(os, 'getloadavg') else None,
    'jax': jax.__version__,
  }


def head(found: dict[str, Any]) -> str:
  """What it was measured on."""
  about = found['machine']
  load, pairs = about['load'], found['repeats']
  return (
    f'{about["device"]} ({about["platform"]}), {about["cores"]} cores'
    + ('' if load is None else f', load {load:.1f} at the start')
    + f', jax {about["jax"]}'
    + (f'; {pairs} pairs' if pairs else '')
  )


def tell(found: dict[str, Any]) -> Iterator[str]:
  """Tables and sentences; each range is minimum, median, maximum."""
  yield head(found)
  yield writer.table([_STEP_HEAD, *map(_step, found['steps'])])
  if found['jobs']:
    yield writer.table([_JOB_HEAD, *map(_job, found['jobs'])])
  yield from _saturated(found['steps'])


_STEP_HEAD = [
  *_CASE,
  *('one step, ms', 'step of all, ms', 'times one', 'at most', ''),
  *('memory', 'at most', '', 'GiB', 'examples/s'),
]


def _step(row: dict[str, Any]) -> list[str]:
  head = [str(row[key]) for key in _CASE]
  if 'failed' in row:
    return [*head, row['failed'], *[''] * (len(_STEP_HEAD) - len(head) - 1)]
  one, all_, times = (Range(**row[key]) for key in ('one', 'all', 'times'))
  bytes_, memory = row['bytes'], row['memory']
  return [
    *head,
    *(one.text(1e3), all_.text(1e3), times.text()),
    *_judged(times.median, row['members']),
    '–' if memory is None else f'{memory:.3f}',
    *(('', '') if memory is None else _judged(memory, 1)),
    '–' if bytes_ is None else f'{bytes_ / GIB:.3f}',
    f'{row["examples_per_second"]:.1f}',
  ]


_JOB_HEAD = [
  *_CASE,
  *('steps', 'one after another, s', 'in one job, s', 'ratio', 'at most', ''),
]


def _job(row: dict[str, Any]) -> list[str]:
  times = Range(**row['times'])
  return [
    *(str(row[key]) for key in (*_CASE, 'steps')),
    Range(**row['in_turn']).text(),
    Range(**row['together']).text(),
    times.text(),
    *_judged(times.median, 1),
  ]


def _judged(value: float, most: float) -> tuple[str, str]:
  return f'{most:.1f}', 'met' if value <= most else 'missed'


def by_case(rows: list[dict[str, Any]]) -> dict[str, dict[int, float]]:
  """{the case in words: {members: examples a second}} of what was measured."""
  out = {}
  for row in rows:
    if 'failed' not in row:
      case = ', '.join(f'{key} {row[key]}' for key in _CASE[2:-1])
      rates = out.setdefault(f'{row["model"]}, {case}', {})
      rates[row['members']] = row['examples_per_second']
  return out


def _saturated(rows: list[dict[str, Any]]) -> Iterator[str]:
  for case, rates in by_case(rows).items():
    if len(rates) < 2:
      continue
    at = population.saturation(rates)
    gain = f'{100 * population.GAIN:.0f} % more examples/s'
    if at is None:
      yield f'{case}: not saturated by {max(rates)} members'
    else:
      yield f'{case}: saturated at {at} members; more bring less than {gain}'


def write(
  found: dict[str, Any],
  folder: pathlib.Path,
  *,
  draw: Callable[[Any, list[dict[str, Any]]], None],
) -> Iterator[str]:
  """NAME.json and, with matplotlib, NAME.png; says what was written.

  Args:
    draw: puts the rows of the benchmark into a figure.
  """
  path = folder / f'{found["benchmark"]}.json'
  workdir.write_json(path, found)
  yield f'{path}'
  try:
    from matplotlib.figure import Figure
  except ImportError:
    yield "no picture, which needs matplotlib: pip install 'ptjax[plots]'"
    return
  rows = found['rows' if 'rows' in found else 'steps']
  height = max(4.0, 0.25 * len(rows))  # inches
  figure = Figure(figsize=(9, height), dpi=150, layout='constrained')
  draw(figure, rows)
  path = path.with_suffix('.png')
  with files.replaced(path) as aside:
    figure.savefig(aside, format='png')
  yield f'{path}'


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
  """What a member's share of a step costs; and examples/s over members."""
  rates = by_case(rows)
  rows = [row for row in rows if 'failed' not in row]
  grows = any(len(of_case) > 1 for of_case in rates.values())
  shares, *speeds = figure.subplots(1, 1 + grows, squeeze=False)[0]
  for at, row in enumerate(rows):
    low, middle, high = (
      row['times'][key] / row['members'] for key in ('min', 'median', 'max')
    )
    bar = [[middle - low], [high - middle]]
    shares.errorbar([middle], [at], xerr=bar, fmt='o', color='C0')
  shares.axvline(1, color='0.6')
  shares.set_yticks(range(len(rows)), [_label(row) for row in rows])
  shares.margins(y=0.1)
  shares.invert_yaxis()
  shares.set_xlim(left=0)
  shares.set_xlabel('step of all / (members × step of one)')
  for axes in speeds:
    for case, of_case in rates.items():
      axes.plot(*zip(*sorted(of_case.items())), marker='o', label=case)
    axes.margins(y=0.1)
    axes.set_ylim(bottom=0)
    axes.set(xlabel='members', ylabel='examples/s')
    axes.legend(fontsize=6)


def _label(row: dict[str, Any]) -> str:
  rows, lengths = '{batch} × {members}', '{prompt} + {input}'
  return f'{{model}}, {rows} rows of {lengths}'.format(**row)
