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
_PIECE = 10  # columns of a label's piece
_BY = {
  'cosine': 'cosine, highest first',
  'distance': 'Euclidean distance, lowest first',
}
_MATRICES = {
  'flattened': 'cosine of the flattened prompts',
  'by_token': 'cosine of tokens of one position, mean over positions',
  'of_means': 'cosine of the mean tokens',
  'of_pairs': 'cosine of tokens, mean over all pairs of them',
}
_MOST = 3  # prompts that another is told to be like


def text(found: dict[str, Any]) -> str:
  """Everything: each prompt's neighbours, then the summary."""
  heads = _heads(found, width=_WIDTH)
  parts = [
    neighbours(head, prompt, by)
    for head, prompt in zip(heads, found['prompts'].values())
    for by in _BY
  ]
  return '\n\n'.join([*parts, summary(found)])


def summary(found: dict[str, Any]) -> str:
  """Norms, distinct neighbours, labels, and how alike prompts are."""
  parts = [_norms(found), _distinct(found)]
  if any(prompt['labels'] for prompt in found['prompts'].values()):
    parts.append(_labels(found))
  if len(found['prompts']) > 1:
    heads = _heads(found)
    parts += [
      _matrix(title, heads, found['similarity'][key])
      for key, title in _MATRICES.items()
    ]
    parts.append(_retrieval(found))
  return '\n\n'.join(parts)


def neighbours(head: str, prompt: dict[str, Any], by: str) -> str:
  """The table of one prompt, under its head."""
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
  return f'{head}\n{writer.table(rows)}'


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
  names = ['(vocabulary)', *_heads(found)]
  head = ['norm of rows', 'rows', *kinds, 'mean to vocabulary']
  return writer.table([head, *zip(names, sizes, *columns, ratios)])


def _ratio(value: float | None) -> str:
  return '–' if value is None else f'{value:.2f}'


def _distinct(found: dict[str, Any]) -> str:
  near = f'the {found["neighbours"]} nearest'
  titles = ['distinct pieces', 'nearest by cosine', near]
  rows: list[list[Any]] = [[*titles, 'nearest by distance', near]]
  for head, prompt in zip(_heads(found), found['prompts'].values()):
    row: list[Any] = [head]
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
  heads = _heads(found, width=_SHORT)
  for head, prompt in zip(heads, found['prompts'].values()):
    for label in prompt['labels']:
      own, best = label['own'], label['best']
      started += own is not None
      kept += bool(own and own['persists'])
      rows.append(
        [head] * several
        + [
          _cut(label['label'], _SHORT if several else _NAME),
          own and own['token'],
          own and own['rank'],
          _cut(_visible(own['piece']), _PIECE) if own else '–',
          f'{own["cosine_to_start"]:.2f}' if own else '–',
          best['token'],
          best['rank'],
          _tokens(len(label['near'])),
        ]
      )
  titles = ['prompt'] * several
  titles += ['label', 'token', 'rank', 'piece', 'to start']
  titles += ['best', 'rank', f'among the {count} of']
  lines = [writer.table([titles, *rows])]
  if started:
    lines += [
      f'{kept} of {started} labels persist: a piece is among the {count} '
      'nearest of the token that started as the label',
      'to start: cosine to where it started; best: the token that a piece '
      'is nearest to',
    ]
  return '\n'.join(lines)


def _tokens(count: int) -> str:
  return f'{count} token' + 's' * (count != 1)


def _matrix(
  title: str, heads: Sequence[str], values: Sequence[Sequence[float | None]]
) -> str:
  """Rows have heads, columns their numbers, in parts that fit the width."""
  across = (_WIDTH - max(map(len, heads))) // len('  -0.00')
  parts = []
  for start in range(0, len(heads), across):
    numbers = range(start, min(start + across, len(heads)))
    rows = [['', *(f'{i + 1:>5}' for i in numbers)]]
    for head, line in zip(heads, values):
      rows.append([head, *(_cosine(line[i]) for i in numbers)])
    parts.append(writer.table(rows))
  return '\n\n'.join([f'{title}\n{parts[0]}', *parts[1:]])


def _retrieval(found: dict[str, Any]) -> str:
  """Which prompts each could have started from, by the last matrix."""
  names = list(found['prompts'])
  numbers = dict(zip(names, _heads(found, width=_SHORT)))
  rows: list[list[Any]] = [
    ['most like', 'by all pairs of tokens; the first is what SPoT starts from']
  ]
  for head, name in zip(_heads(found), names):
    near = found['retrieval'][name][:_MOST]
    rows.append(
      [
        head,
        '  '.join(f'{numbers[n["prompt"]]} {n["of_pairs"]:.2f}' for n in near),
      ]
    )
  return writer.table(rows)


def _cosine(value: float | None) -> str:
  return ('–' if value is None else f'{value:.2f}').rjust(5)


def _heads(found: dict[str, Any], *, width: int = _NAME) -> list[str]:
  """How prompts are called; several by a number too, as names may be cut.

  A long name loses its front, which is a folder.
  """
  names = list(found['prompts'])
  digits = len(str(len(names)))
  heads = []
  for number, name in enumerate(names, 1):
    head = f'{number:>{digits}} ' if len(names) > 1 else ''
    room = width - len(head)
    head += name if len(name) <= room else '…' + name[1 - room :]
    heads.append(head)
  return heads


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
