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
  *('at least', '', 'at the rate', 'differ by', 'GiB', "of PEFT's", 'load'),
]


def tell(found: dict[str, Any]) -> Iterator[str]:
  """Tables and sentences; each range is minimum, median, maximum."""
  yield tables.head(found)
  if found['missing']:
    yield found['missing']
  rows = found['rows']
  yield writer.table([_HEAD, *map(_row, rows)])
  yield from rates(rows)
  yield from best(rows)


def rates(rows: list[dict[str, Any]]) -> Iterator[str]:
  """What one large product does, and what it means for what is aimed at."""
  found = {}
  for row in rows:
    if 'rate' in row:
      found.setdefault(row['dtype'], []).append(row['rate'])
  for dtype, each in found.items():
    yield (
      f'one large product of {dtype}, by ptjax, beside each row: '
      f'{Range.of(each).text(1e-9)} 10^9 operations/s'
    )
  if any('theirs' in row for row in rows):
    yield (
      "at the rate: times PEFT's speed, were all that ptjax must compute done "
      'at the rate of that product and nothing else took time; what is aimed '
      'at above that cannot be had here'
    )


def at_the_rate(row: dict[str, Any]) -> float:
  """Times the peer's speed, were all operations done at the product's rate."""
  return row['theirs']['median'] * row['rate'] / row['operations']


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
  cells = [str(row[key]) for key in _CASE]
  cells += _side(row, '') if 'ours' in row else [''] * 2
  if 'theirs' not in row:
    cells += [''] * 7
  else:
    times = Range(**row['times'])
    cells += [
      *_side(row, 'theirs_'),
      times.text(),
      *judged(times.median, row['at_least']),
    ]
    cells += [f'{at_the_rate(row):.2f}', f'{row["same"]:.1e}']
  load = row.get('load')
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
  if not all('ours' in row for row in rows):
    return _draw_memory(axes, rows)
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
  _labelled(axes, rows, "times PEFT's speed" if compared else 'seconds')


def _draw_memory(axes: Any, rows: list[dict[str, Any]]) -> None:
  """Peaks, of rows that were not timed."""
  rows = [row for row in rows if 'bytes' in row]
  for key, color, name in (('', 'C0', 'ptjax'), ('theirs_', 'C1', 'PEFT')):
    held = [(row.get(f'{key}bytes', 0), at) for at, row in enumerate(rows)]
    for size, at in (each for each in held if each[0]):
      label, name = name, None  # once in the legend
      axes.plot(size / tables.GIB, at, 'o', color=color, label=label)
  axes.legend()
  _labelled(axes, rows, 'GiB')


def _labelled(axes: Any, rows: list[dict[str, Any]], what: str) -> None:
  axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
  axes.margins(y=0.1)
  axes.invert_yaxis()
  axes.set_xlim(left=0)
  axes.set_xlabel(what)


def _label(row: dict[str, Any]) -> str:
  lengths = f'{row["batch"]} rows of {row["prompt"]} + {row["input"]}'
  return f'{row["model"]}, {row["dtype"]}, {lengths}, {row["work"]}'
