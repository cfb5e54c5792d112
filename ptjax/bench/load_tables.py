"""What loads by several processes say: a table and a picture.

Owns the words. Knows nothing of how anything was measured.
"""

from collections.abc import Iterator
from typing import Any

from ptjax import writer
from ptjax.bench import load, tables

_HEAD = [
  *('files, GB', 'processes', 'cut over', 'kept in', 's'),
  *('share, MB', 'largest array', 'peak', 'read'),
  *('(peak - share) / largest', 'at most', ''),
]


def tell(found: dict[str, Any]) -> Iterator[str]:
  """A line a load; bytes are those of the process that has most."""
  yield tables.head(found)
  yield writer.table([_HEAD, *map(_row, found['rows'])])


def _row(row: dict[str, Any]) -> list[str]:
  most = (
    max(one[key] for one in row['each'])
    for key in ('share', 'largest', 'peak', 'read')
  )
  return [
    f'{row["gigabytes"]:.2f}',
    str(row['processes']),
    row['cut'] or '–',
    row['dtype'],
    f'{row["seconds"]:.1f}',
    *(f'{bytes_ / 1e6:.0f}' for bytes_ in most),
    f'{row["over"]:.2f}',
    f'{load.BOUND}',
    'met' if row['over'] <= load.BOUND else 'missed',
  ]


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
  """Each process's peak, and where its bound is."""
  axes = figure.subplots()
  for at, row in enumerate(rows):
    for one in row['each']:
      bound = one['share'] + load.BOUND * one['largest']
      axes.plot([one['peak'] / 1e6], [at], marker='o', color='C0')
      axes.plot([bound / 1e6], [at], marker='|', markersize=12, color='C1')
  axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
  axes.margins(y=0.1)
  axes.invert_yaxis()
  axes.set_xlim(left=0)
  axes.set_xlabel('peak host memory of a process, MB; its bound')


def _label(row: dict[str, Any]) -> str:
  cut = f' by {row["cut"]}' if row['cut'] else ''
  return f'{row["gigabytes"]:.1f} GB, {row["dtype"]}, {row["processes"]}{cut}'
