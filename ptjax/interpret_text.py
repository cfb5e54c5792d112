"""What a person reads of prompts that were looked at (`interpret.look`).

Owns layout within 100 columns; computes nothing.
"""

import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from ptjax import writer

_WIDTH = 100
_ACROSS = 5  # neighbours in a line
_NAME, _SHORT = 24, 16  # columns of a name, and of one beside another
_BY = {
  'cosine': 'cosine, highest first',
  'distance': 'Euclidean distance, lowest first',
}
_MATRICES = {
  'flattened': 'cosine of the flattened prompts',
  'by_token': 'cosine of tokens of one position, mean over positions',
  'of_means': 'cosine of the mean tokens',
}


def text(found: dict[str, Any]) -> str:
  """Everything: each prompt's neighbours, then the summary."""
  parts = [
    neighbours(name, prompt, by)
    for name, prompt in found['prompts'].items()
    for by in _BY
  ]
  return '\n\n'.join([*parts, summary(found)])


def summary(found: dict[str, Any]) -> str:
  """Norms, distinct neighbours, labels, and how alike prompts are."""
  parts = [_norms(found), _distinct(found)]
  if any(prompt['labels'] for prompt in found['prompts'].values()):
    parts.append(_labels(found))
  if len(found['prompts']) > 1:
    names = list(found['prompts'])
    parts += [
      _matrix(title, names, found['similarity'][key])
      for key, title in _MATRICES.items()
    ]
  return '\n\n'.join(parts)


def neighbours(name: str, prompt: dict[str, Any], by: str) -> str:
  """The table of one prompt."""
  tokens = prompt['nearest'][by]
  digits = 2 if by == 'cosine' else None
  values = _aligned([v for t in tokens for v in t['values']], digits)
  across = min(_ACROSS, len(tokens[0]['ids']))
  room = (_WIDTH - len('token')) // across - len('   ') - len(values[0])
  written = [[_visible(piece) for piece in t['pieces']] for t in tokens]
  width = min(room, max(_columns(p) for pieces in written for p in pieces))
  rows: list[list[Any]] = [['token', f'nearest pieces by {_BY[by]}']]
  shown = iter(values)
  for number, pieces in enumerate(written):
    cells = [f'{_fit(piece, width)} {next(shown)}' for piece in pieces]
    for start in range(0, len(cells), across):
      line = '  '.join(cells[start : start + across])
      rows.append(['' if start else str(number).rjust(5), line])
  return f'{_name(name)}\n{writer.table(rows)}'


def _norms(found: dict[str, Any]) -> str:
  kinds = ('mean', 'min', 'max')
  prompts = found['prompts']
  lines = [found['vocabulary']['norm'], *(p['norm'] for p in prompts.values())]
  columns = [_aligned([line[kind] for line in lines]) for kind in kinds]
  ratios = ['', *(_ratio(p['norm']['ratio']) for p in prompts.values())]
  sizes = [
    found['vocabulary']['pieces'],
    *(p['tokens'] for p in prompts.values()),
  ]
  names = ['(vocabulary)', *map(_name, prompts)]
  head = ['norm of rows', 'rows', *kinds, 'mean to vocabulary']
  return writer.table([head, *zip(names, sizes, *columns, ratios)])


def _ratio(value: float | None) -> str:
  return '–' if value is None else f'{value:.2f}'


def _distinct(found: dict[str, Any]) -> str:
  near = f'the {found["neighbours"]} nearest'
  head = ['distinct pieces', 'nearest by cosine', near]
  rows: list[list[Any]] = [[*head, 'nearest by distance', near]]
  for name, prompt in found['prompts'].items():
    row: list[Any] = [_name(name)]
    for counts in prompt['distinct'].values():
      listed = prompt['tokens'] * found['neighbours']
      row.append(f'{counts["first"]} of {prompt["tokens"]}')
      row.append(f'{counts["all"]} of {listed}')
    rows.append(row)
  return writer.table(rows)


def _labels(found: dict[str, Any]) -> str:
  """Each label's own token, its best one, and how many have it near."""
  count = found['neighbours']
  rows: list[list[Any]] = []
  several = len(found['prompts']) > 1
  kept = started = 0
  for name, prompt in found['prompts'].items():
    for label in prompt['labels']:
      own, best = label['own'], label['best']
      started += own is not None
      kept += bool(own and own['persists'])
      rows.append(
        [_name(name, _SHORT)] * several
        + [
          _cut(label['label'], _SHORT if several else _NAME),
          own and own['token'],
          own and own['rank'],
          f'{own["cosine_to_start"]:.2f}' if own else '–',
          best['token'],
          best['rank'],
          _tokens(len(label['near'])),
        ]
      )
  head = ['prompt'] * several + ['label', 'token', 'rank', 'cosine to start']
  head += ['best token', 'rank', f'among the {count} of']
  text = writer.table([head, *rows])
  if not started:
    return text
  return (
    f'{text}\n{kept} of {started} labels persist: a piece of theirs is among '
    f'the {count} nearest of the token they started'
  )


def _tokens(count: int) -> str:
  return f'{count} token' + 's' * (count != 1)


def _matrix(
  title: str, names: Sequence[str], values: Sequence[Sequence[float | None]]
) -> str:
  """Rows have names, columns their numbers, in parts that fit the width."""
  digits = len(str(len(names)))
  heads = [f'{i:>{digits}} {_name(n)}' for i, n in enumerate(names, 1)]
  across = (_WIDTH - max(map(len, heads))) // len('  -0.00')
  parts = []
  for start in range(0, len(names), across):
    numbers = range(start, min(start + across, len(names)))
    rows = [['', *(f'{i + 1:>5}' for i in numbers)]]
    for head, line in zip(heads, values):
      rows.append([head, *(_cosine(line[i]) for i in numbers)])
    parts.append(writer.table(rows))
  return '\n\n'.join([f'{title}\n{parts[0]}', *parts[1:]])


def _cosine(value: float | None) -> str:
  return ('–' if value is None else f'{value:.2f}').rjust(5)


def _name(name: str, width: int = _NAME) -> str:
  """A longer one loses its front, which is a folder."""
  return name if len(name) <= width else '…' + name[1 - width :]


def _aligned(values: Sequence[float], digits: int | None = None) -> list[str]:
  """Numbers of one width; by default with three digits of the largest."""
  if digits is None:
    largest = max(map(abs, values)) or 1
    digits = max(0, 2 - math.floor(math.log10(largest)))
  texts = [f'{value:.{digits}f}' for value in values]
  width = max(map(len, texts))
  return [text.rjust(width) for text in texts]


def _visible(piece: str) -> str:
  r"""A newline as \n: what is no letter on a terminal is written out."""
  return ''.join(
    c if c.isprintable() else c.encode('unicode_escape').decode() for c in piece
  )


def _columns(piece: str) -> int:
  """How wide it is on a terminal: some letters take two columns, some none."""
  return sum(
    0
    if unicodedata.combining(c)
    else 1 + (unicodedata.east_asian_width(c) in 'WF')
    for c in piece
  )


def _cut(piece: str, width: int) -> str:
  """So many columns at most."""
  if _columns(piece) <= width:
    return piece
  while _columns(piece) > width - 1:
    piece = piece[:-1]
  return piece + '…'


def _fit(piece: str, width: int) -> str:
  """Exactly so many columns."""
  cut = _cut(piece, width)
  return cut + ' ' * (width - _columns(cut))
