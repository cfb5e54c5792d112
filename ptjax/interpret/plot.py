"""A picture of prompts that were looked at (`interpret.look`).

Of one prompt the cosines between its tokens, and their norms; of several the
cosines between them. Owns size, colours and words of the picture; needs
matplotlib, the extra `plots`.
"""

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ptjax import files

_DPI = 200
_TITLE, _FONT = 8.0, 7.0  # points
_SMALL = 3.5  # points; where labels would be smaller, not all are shown
_GREY, _BLUE = '0.8', '#4c78a8'
_WRITTEN = 10  # prompts whose matrix has its numbers written in it
_MATRICES = {
  'flattened': 'cosine of flattened prompts',
  'by_token': 'of tokens, mean over positions',
  'of_means': 'of mean tokens',
}


class NotInstalled(Exception):
  """matplotlib is not there; the message says how to get it."""


def draw(found: dict[str, Any], path: pathlib.Path) -> None:
  """Writes a PNG: one prompt's tokens, or the likeness of several prompts.

  Raises:
    NotInstalled: without matplotlib.
  """
  try:
    import matplotlib
    from matplotlib.figure import Figure
  except ImportError:
    raise NotInstalled(
      f'{path.name} was not drawn, which needs the package matplotlib: '
      'pip install matplotlib'
    ) from None
  with (
    matplotlib.rc_context({'text.parse_math': False}),  # a piece can be '$'
    warnings.catch_warnings(),
  ):
    # A letter that the font does not have is drawn as a box.
    warnings.filterwarnings('ignore', 'Glyph .* missing from')
    # Not by pyplot: no window, and nothing that outlives the figure.
    figure = Figure(dpi=_DPI)
    (_tokens if len(found['prompts']) == 1 else _prompts)(figure, found)
    with files.replaced(path) as aside:
      figure.savefig(aside, format='png', bbox_inches='tight', pad_inches=0.1)


def _tokens(figure: Any, found: dict[str, Any]) -> None:
  """Cosines between the tokens, beside the norm of each."""
  ((name, prompt),) = found['prompts'].items()
  count = prompt['tokens']
  side = min(max(0.16 * count, 2.4), 7.0)
  bars = 0.8 + 0.06 * side
  left, right, bar = _axes(figure, side, (side, bars, 0.1), gap=0.12)
  _matrix(left, prompt['similarity'], bar)
  left.set_title(f'{name}: cosine between its tokens', fontsize=_TITLE)
  left.set_ylabel('virtual token and the piece nearest to it', fontsize=_TITLE)
  pieces = [token['pieces'][0] for token in prompt['nearest']['cosine']]
  labels = [f'{piece}  {i}' for i, piece in enumerate(pieces)]
  _ticks(left.yaxis, labels, side)
  _ticks(left.xaxis, range(count), side, every=5 if count <= 50 else 10)
  norms, usual = prompt['norm']['tokens'], found['vocabulary']['norm']
  right.axvspan(usual['min'], usual['max'], color=_GREY, alpha=0.6, lw=0)
  right.barh(range(count), norms, height=0.7, color=_BLUE)
  right.axvline(usual['mean'], color='black', lw=0.8, ls='--')
  right.set_title('norm', fontsize=_TITLE)
  right.set_xlabel('dashed: mean piece\ngrey: all pieces', fontsize=_FONT)
  right.set_ylim(left.get_ylim())
  right.tick_params(labelsize=_FONT, length=2, left=False, labelleft=False)
  right.spines[['top', 'right']].set_visible(False)


def _prompts(figure: Any, found: dict[str, Any]) -> None:
  """A matrix for each measure that is defined for some pair."""
  names = list(found['prompts'])
  shown = [
    (title, found['similarity'][key])
    for key, title in _MATRICES.items()
    if np.isfinite(_off_diagonal(found['similarity'][key])).any()
  ]
  numbers = range(1, len(names) + 1)
  side = min(max(0.3 * len(names), 1.6), 3.0)
  axes = _axes(figure, side, (side, 0.1) * len(shown), gap=0.08, after=0.5)
  for axis, bar, (title, values) in zip(axes[::2], axes[1::2], shown):
    heads = [f'{name}  {i}' for name, i in zip(names, numbers)]
    _matrix(axis, values, bar, written=len(names) <= _WRITTEN)
    axis.set_title(title, fontsize=_TITLE)
    _ticks(axis.xaxis, numbers, side)
    _ticks(axis.yaxis, heads if axis is axes[0] else numbers, side)


def _axes(
  figure: Any,
  height: float,
  widths: Sequence[float],
  *,
  gap: float,
  after: float = 0.0,
) -> list[Any]:
  """Axes of one height side by side; all in inches.

  Args:
    gap: between two of them.
    after: more than that behind every second one.
  """
  figure.set_size_inches(sum(widths) + len(widths) * (gap + after), height)
  width, _ = figure.get_size_inches()
  out, at = [], 0.0
  for number, wide in enumerate(widths):
    out.append(figure.add_axes((at / width, 0, wide / width, 1)))
    at += wide + gap + after * (number % 2)
  return out


def _matrix(axis: Any, values: Any, bar: Any, *, written: bool = False) -> None:
  """Cosines, coloured up to the largest off the diagonal, which is grey."""
  off = _off_diagonal(values)
  largest = np.abs(off[np.isfinite(off)]).max(initial=0)
  limit = max(np.ceil(10 * largest) / 10, 0.1)
  axis.set_facecolor(_GREY)
  image = axis.imshow(
    off, cmap='RdBu_r', vmin=-limit, vmax=limit, aspect='auto'
  )
  axis.figure.colorbar(image, cax=bar)
  bar.tick_params(labelsize=_FONT, length=2)
  for (row, column), value in np.ndenumerate(off):
    if written and np.isfinite(value):
      axis.text(
        *(column, row, f'{value:.2f}'),
        color='white' if abs(value) > 0.6 * limit else 'black',
        fontsize=6,
        ha='center',
        va='center',
      )


def _off_diagonal(values: Any) -> np.ndarray:
  """The matrix with NaN on its diagonal, and where a value is None."""
  off = np.array(values, dtype=float)
  np.fill_diagonal(off, np.nan)
  return off


def _ticks(
  axis: Any, labels: Sequence[Any], inches: float, *, every: int = 1
) -> None:
  """Labels as large as there is room for; where that is too small, fewer."""
  font = min(_FONT, every * 0.8 * 72 * inches / len(labels))
  if font < _SMALL:
    font, every = _FONT, 10 * every
  places = range(0, len(labels), every)
  texts = [str(labels[place]) for place in places]
  axis.set_ticks(places, texts, fontsize=font)
  axis.set_tick_params(length=2, pad=2)
