"""Seconds until the first step may run: tracing, compiling, the second start.

Owns which shapes are compiled, and that each start is a process of its own. The
weights are shapes, the step is that of a run. Knows no peer.
"""

import dataclasses
import itertools
import json
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax

from ptjax import assemble, mesh, writer
from ptjax import config as config_lib
from ptjax.bench import apart, pairs, tables, versus
from ptjax.plan import steps
from ptjax.weights import published, t5

DEPTHS = (6, 12, 24)  # layers of the encoder, and of the decoder
# Of the step of an XXL, in seconds: before anything is cached, and after.
FIRST, SECOND = 60.0, 10.0


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is measured: widths of models at several depths, and an XXL whole."""

  models: tuple[str, ...] = ('base',)
  depths: tuple[int, ...] = DEPTHS
  whole: tuple[str, ...] = ('xxl',)
  batch: int = 32
  input: int = 512
  prompt: int = 100
  repeats: int = 3


def run(plan: Plan) -> dict[str, Any]:
  """Measures; 'rows' have 'first' and 'second', seconds of each start."""
  for name in plan.models:
    config_lib.one_of('--shapes', name, tuple(published.T5_1_1))
  cases = list(itertools.product(plan.models, plan.depths))
  cases += [(n, published.T5_1_1[n].num_layers) for n in plan.whole]
  rows = []
  for (name, depth), scan in [(c, s) for c in cases for s in (True, False)]:
    if name in plan.whole and not scan:
      continue
    versus.tell(f'{name}, {depth} layers, {"scanned" if scan else "unrolled"}')
    found = [_starts(plan, name, depth, scan) for _ in range(plan.repeats)]
    row = {'model': name, 'layers': depth, 'scan': scan, 'load': versus.load()}
    for key in ('first', 'second'):
      row |= versus.seconds_of(key, [start[key] for start in found])
    rows.append(row)
  return {'rows': rows}


def _starts(plan: Plan, name: str, depth: int, scan: bool) -> dict[str, float]:
  """Two starts with one cache of compiled programs, empty at first."""
  with tempfile.TemporaryDirectory(prefix='ptjax-bench-') as room:
    folder = pathlib.Path(room)
    sizes = dataclasses.replace(
      published.T5_1_1[name], num_layers=depth, num_decoder_layers=depth
    )
    said = json.dumps(t5.to_json(sizes, dtype='float32'))
    (folder / 'config.json').write_text(said)
    return {
      key: apart.in_a_process(start, folder, plan, scan)
      for key in ('first', 'second')
    }


def start(folder: pathlib.Path, plan: Plan, scan: bool) -> float:
  """Seconds of tracing and compiling a training step in this process."""
  jax.config.update('jax_compilation_cache_dir', str(folder / 'cache'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
  settings = {
    'cpu': 'plain',  # as where an XXL trains: looped, and kept between starts
    'model': str(folder),
    'input_length': plan.input,
    'train.batch_size': plan.batch,
    'method.length': plan.prompt,
    'scan': scan,
  }
  config = config_lib.update(config_lib.default(), settings)
  made = assemble.outlined(config, mesh.make(config))
  began = time.perf_counter()
  steps.trace(made, 'train').traced.lower().compile()
  return time.perf_counter() - began


_HEAD = ['model', 'layers', '', 'first start, s', 'at most', '']
_HEAD += ['second start, s', 'at most', '', 'load']


def tell(found: dict[str, Any]) -> Iterator[str]:
  """A table; each range is minimum, median, maximum."""
  yield tables.head(found)
  yield writer.table([_HEAD, *map(_told, found['rows'])])


def _told(row: dict[str, Any]) -> list[str]:
  cells = [row['model'], str(row['layers'])]
  cells.append('scanned' if row['scan'] else 'unrolled')
  for key, most in (('first', FIRST), ('second', SECOND)):
    seconds = pairs.Range(**row[key])
    cells += [seconds.text(), '–', '']
    if row['model'] == 'xxl':
      met = 'met' if seconds.median <= most else 'missed'
      cells[-2:] = [f'{most:.0f}', met]
  return [*cells, '–' if row['load'] is None else f'{row["load"]:.1f}']


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
  """Seconds against depth."""
  axes = figure.subplots()
  groups: dict[str, list[tuple[int, float]]] = {}
  for row in rows:
    for key in ('first', 'second'):
      how = 'scanned' if row['scan'] else 'unrolled'
      name = f'{row["model"]}, {how}, {key} start'
      groups.setdefault(name, []).append((row['layers'], row[key]['median']))
  for name, points in groups.items():
    axes.plot(*zip(*sorted(points)), marker='o', label=name)
  axes.set_ylim(bottom=0)
  axes.set(xlabel='layers of encoder and of decoder', ylabel='seconds')
  axes.legend(fontsize=6)
