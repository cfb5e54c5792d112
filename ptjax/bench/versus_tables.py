"""What the comparison with PEFT says: a table, sentences, a picture.

Owns the words. Knows nothing of how anything was measured.
"""

from collections.abc import Iterator
from typing import Any

from ptjax import writer
from ptjax.bench import tables
from ptjax.bench.pairs import Range

_CASE = ('model', 'dtype', 'prompt', 'batch', 'input', 'work')
_HEAD = [
  *_CASE,
  *('ptjax, ms', 'of rate', 'PEFT, ms', 'of rate', 'times as fast'),
  *('at least', '', 'differ by', 'GiB', "of PEFT's", 'load'),
]


def tell(found: dict[str, Any]) -> Iterator[str]:
  """Tables and sentences; each range is minimum, median, maximum."""
  yield tables.head(found)
  if found['missing']:
    yield found['missing']
  rows = found['rows']
  yield writer.table([_HEAD, *map(_row, rows)])
  rates = {
    dtype: Range.of([r['rate'] for r in rows if r['dtype'] == dtype])
    for dtype in dict.fromkeys(row['dtype'] for row in rows)
  }
  for dtype, rate in rates.items():
    yield (
      f'one large product of {dtype}, by ptjax, beside each row: '
      f'{rate.text(1e-9)} 10^9 operations/s'
    )
  yield from best(rows)


def best(rows: list[dict[str, Any]]) -> Iterator[str]:
  """Of what was measured in several dtypes: each side in its fastest."""
  same = {}
  for row in rows:
    if 'times' in row:
      key = tuple(row[name] for name in _CASE if name != 'dtype')
      same.setdefault(key, []).append(row)
  for (model, prompt, batch, input_, work), found in same.items():
    if len({row['dtype'] for row in found}) > 1:
      ours, theirs = (
        min((row[side]['median'], row['dtype']) for row in found)
        for side in ('ours', 'theirs')
      )
      yield (
        f'{model}, {batch} rows of {prompt} + {input_}, {work}, each in its '
        f"best dtype: {theirs[0] / ours[0]:.2f} times PEFT's speed "
        f'({ours[1]} against {theirs[1]})'
      )


def _row(row: dict[str, Any]) -> list[str]:
  cells = [*(str(row[key]) for key in _CASE), *_side(row, '')]
  if 'theirs' not in row:
    cells += [''] * 6
  else:
    times = Range(**row['times'])
    cells += [
      *_side(row, 'theirs_'),
      times.text(),
      *judged(times.median, row['at_least']),
    ]
    cells.append(f'{row["same"]:.1e}')
  load = row['load']
  return [*cells, *_memory(row), '–' if load is None else f'{load:.1f}']


def _side(row: dict[str, Any], prefix: str) -> tuple[str, str]:
  """Milliseconds, and the operations a second as a share of the rate."""
  seconds = Range(**row['theirs' if prefix else 'ours'])
  share = row[f'{prefix}operations'] / seconds.median / row['rate']
  return seconds.text(1e3), f'{share:.2f}'


def judged(value: float, least: float | None) -> tuple[str, str]:
  """The aim, and whether it is met."""
  if least is None:
    return '–', ''
  return f'{least:.1f}', 'met' if value >= least else 'missed'


def _memory(row: dict[str, Any]) -> tuple[str, str]:
  if 'bytes' not in row:
    return '', ''
  own = f'{row["bytes"] / tables.GIB:.2f}'
  if 'theirs_bytes' not in row:
    return own, ''
  share = row['bytes'] / row['theirs_bytes']
  verdict = 'met' if share <= row['memory_at_most'] else 'missed'
  return own, f'{share:.2f} {verdict}'


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
  """How many times as fast, and where the aim is; seconds without PEFT."""
  axes = figure.subplots()
  compared = all('times' in row for row in rows)
  for at, row in enumerate(rows):
    found = row['times' if compared else 'ours']
    low, middle, high = (found[key] for key in ('min', 'median', 'max'))
    bar = [[middle - low], [high - middle]]
    axes.errorbar([middle], [at], xerr=bar, fmt='o', color='C0')
    if compared and row['at_least'] is not None:
      axes.plot([row['at_least']], [at], marker='|', markersize=12, color='C1')
  if compared:
    axes.axvline(1, color='0.6')
  axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
  axes.margins(y=0.1)
  axes.invert_yaxis()
  axes.set_xlim(left=0)
  axes.set_xlabel("times PEFT's speed" if compared else 'seconds')


def _label(row: dict[str, Any]) -> str:
  lengths = f'{row["batch"]} rows of {row["prompt"]} + {row["input"]}'
  return f'{row["model"]}, {row["dtype"]}, {lengths}, {row["work"]}'
