"""Look at a prompt: what its virtual tokens are near (Lester et al. 2021, §7).

Owns what is asked of a prompt: nearest vocabulary pieces, label words that
persist, norms, likeness to other prompts; and a run's inspect.json. Knows
arrays, pieces as strings, and words; no model, no task and no prompt file.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ptjax import workdir
from ptjax.config import UserError
from ptjax.data.tokenizer import Tokenizer
from ptjax.interpret import alike, nearest, plot
from ptjax.interpret import text as text_lib


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A prompt as `run` takes it.

  Attributes:
    labels: the label words of its task, in their order.
    from_labels: whether its first rows started as the means of their pieces.
  """

  name: str
  rows_PxD: Any
  labels: Sequence[str] = ()
  from_labels: bool = False


@dataclasses.dataclass(frozen=True)
class Label:
  """A label word as `look` takes it.

  Attributes:
    ids: its pieces.
    token: the virtual token that started as the mean of their embeddings;
      None if none did.
  """

  word: str
  ids: Sequence[int]
  token: int | None = None


def run(
  prompts: Sequence[Prompt],
  table_VxD: Any,
  *,
  tokenizer: Tokenizer,
  folder: pathlib.Path,
  count: int = 5,
  say: Callable[[str], None] = print,
) -> dict[str, Any]:
  """Looks at prompts of one model; returns what inspect.json holds.

  Writes inspect.json, inspect.txt and inspect.png to `folder`, and says what
  a terminal holds: of one prompt everything, of several what compares them.

  Raises:
    UserError: two prompts have one name, and what `look` refuses.
  """
  names = [prompt.name for prompt in prompts]
  twice = [name for i, name in enumerate(names) if name in names[:i]]
  if twice:
    raise UserError(f'two prompts are called {twice[0]}; name each once')
  found = look(
    {prompt.name: prompt.rows_PxD for prompt in prompts},
    table_VxD,
    pieces=tokenizer.pieces(),
    labels={prompt.name: _labels(prompt, tokenizer) for prompt in prompts},
    count=count,
  )
  text = text_lib.text(found)
  say(text if len(prompts) == 1 else text_lib.summary(found))
  folder.mkdir(parents=True, exist_ok=True)
  workdir.write_json(folder / 'inspect.json', found)
  (folder / 'inspect.txt').write_text(text + '\n', encoding='utf-8')
  left = ['inspect.json', 'inspect.txt']
  try:
    plot.draw(found, folder / 'inspect.png')
    left.append('inspect.png')
  except plot.NotInstalled as error:
    say(str(error))
  say(f'{folder}: {", ".join(left)}')
  return found


def look(
  prompts: Mapping[str, Any],
  table_VxD: Any,
  *,
  pieces: Sequence[str | None],
  labels: Mapping[str, Sequence[Label]] | None = None,
  count: int = 5,
) -> dict[str, Any]:
  """All that is to be seen of prompts of one frozen model, ready for JSON.

  Args:
    prompts: {name: [P, D]}; P may differ.
    table_VxD: the model's embedding. Rows behind `pieces` (T5 has 32,128 for
      32,100 pieces) and rows of None are nobody's neighbours.
    labels: of the prompts that have any.
    count: neighbours of a token.

  Raises:
    UserError: a prompt is not of this model's width, or not finite; `count`
      is below 1; there are more pieces than rows.
  """
  if count < 1:
    raise UserError(f'{count} neighbours are too few; ask for 1 or more')
  table = _Table.of(table_VxD, pieces)
  arrays = {
    name: _checked(held, name, table.rows_VxD.shape[1])
    for name, held in prompts.items()
  }
  return {
    'neighbours': min(count, len(table.pieces)),
    'vocabulary': {
      'pieces': len(table.pieces),
      'norm': _spread(table.norms_V),
    },
    'prompts': {
      name: _prompt(
        array_PxD, table, labels=(labels or {}).get(name, ()), count=count
      )
      for name, array_PxD in arrays.items()
    },
    'similarity': _short(alike.matrices(list(arrays.values()))),
    'retrieval': _retrieval(arrays),
  }


@dataclasses.dataclass(frozen=True)
class _Table:
  """The embedding rows that have a piece, their lengths, pieces and ids."""

  rows_VxD: np.ndarray
  norms_V: np.ndarray
  pieces: list[str]
  ids_V: np.ndarray

  @classmethod
  def of(cls, table_VxD: Any, pieces: Sequence[str | None]) -> '_Table':
    table_VxD = np.asarray(table_VxD)
    if len(pieces) > len(table_VxD):
      raise UserError(
        f'the tokenizer has {len(pieces)} pieces, but the model has '
        f'{len(table_VxD)} embedding rows; set config.tokenizer to its own'
      )
    table_VxD = table_VxD[: len(pieces)]
    ids = [i for i, piece in enumerate(pieces) if piece is not None]
    if len(ids) < len(pieces):  # a copy, so only then
      table_VxD = table_VxD[ids]
    norms_V = nearest.norms(table_VxD)
    return cls(table_VxD, norms_V, [pieces[i] for i in ids], np.array(ids))

  def rows_of(self, label: Label) -> list[int]:
    """Where the embeddings of a label's pieces are."""
    rows = np.flatnonzero(np.isin(self.ids_V, label.ids))
    if not len(rows) or len(rows) < len(set(label.ids)):
      raise UserError(
        f'the label {label.word!r} has the pieces {list(label.ids)}, which '
        'the model does not have; set config.tokenizer to its own'
      )
    return np.searchsorted(self.ids_V, label.ids).tolist()


def _prompt(
  array_PxD: np.ndarray, table: _Table, *, labels: Sequence[Label], count: int
) -> dict[str, Any]:
  norms_P, mean = nearest.norms(array_PxD), table.norms_V.mean()
  found = {
    by: _neighbours(array_PxD, table, count=count, by=by)
    for by in nearest.MEASURES
  }
  return {
    'tokens': len(array_PxD),
    'norm': {
      **_spread(norms_P),
      'ratio': _short(norms_P.mean() / mean) if mean else None,
      'tokens': _short(norms_P),
    },
    'nearest': found,
    'distinct': {by: _distinct(tokens) for by, tokens in found.items()},
    'labels': _persistence(array_PxD, table, labels=labels, count=count),
    'similarity': _short(nearest.scores(array_PxD, array_PxD, by='cosine')),
  }


def _neighbours(
  array_PxD: np.ndarray, table: _Table, *, count: int, by: str
) -> list[dict[str, Any]]:
  found = nearest.nearest(array_PxD, table.rows_VxD, count=count, by=by)
  return [
    {
      'ids': table.ids_V[rows_K].tolist(),
      'pieces': [table.pieces[row] for row in rows_K],
      'values': _short(values_K),
    }
    for rows_K, values_K in zip(*found)
  ]


def _distinct(tokens: Sequence[dict[str, Any]]) -> dict[str, int]:
  """Of the first piece of each token, and of all that are listed."""
  return {
    'first': len({token['ids'][0] for token in tokens}),
    'all': len({number for token in tokens for number in token['ids']}),
  }


def _persistence(
  array_PxD: np.ndarray, table: _Table, *, labels: Sequence[Label], count: int
) -> list[dict[str, Any]]:
  """Of each label, where the nearest of its pieces stands among each token's.

  Ranks are by cosine, among the whole vocabulary, 1 the nearest. A label
  persists if the token that started from it still has it among its `count`.
  """
  if not labels:
    return []
  groups = [table.rows_of(label) for label in labels]
  ranks_PxN = nearest.ranks(array_PxD, table.rows_VxD, ids=sum(groups, []))
  ends = np.cumsum([len(group) for group in groups])[:-1]
  out = []
  for label, group, own_PxN in zip(
    labels, groups, np.split(ranks_PxN, ends, axis=1)
  ):
    pieces = [table.pieces[row] for row in group]
    places = _places(own_PxN, pieces)
    own = None
    if label.token is not None:
      start_D = nearest.float64(table.rows_VxD[group]).mean(axis=0)
      cosine = nearest.cosine(array_PxD[label.token], start_D)
      own = places[label.token] | {
        'persists': places[label.token]['rank'] <= count,
        'cosine_to_start': _short(cosine),
      }
    near = [place['token'] for place in places if place['rank'] <= count]
    best = min(places, key=lambda place: place['rank'])
    line = {'label': label.word, 'pieces': pieces}
    out.append(line | {'own': own, 'best': best, 'near': near})
  return out


def _places(ranks_PxN: np.ndarray, pieces: Sequence[str]) -> list[dict]:
  """Each token's best rank of N pieces, and which of them has it."""
  which_P = ranks_PxN.argmin(axis=1)
  return [
    {'token': token, 'rank': int(ranks_N[which]), 'piece': pieces[which]}
    for token, (ranks_N, which) in enumerate(zip(ranks_PxN, which_P))
  ]


def _retrieval(arrays: Mapping[str, np.ndarray]) -> dict[str, list[dict]]:
  """For each of several prompts the others, the most like first."""
  return {
    name: [
      {k: v if k == 'prompt' else _short(v) for k, v in line.items()}
      for line in alike.ranked(
        array_PxD, {n: a for n, a in arrays.items() if n != name}
      )
    ]
    for name, array_PxD in arrays.items()
  }


def _labels(prompt: Prompt, tokenizer: Tokenizer) -> list[Label]:
  rows = len(prompt.rows_PxD) if prompt.from_labels else 0
  return [
    Label(word, tokenizer.encode(word), i if i < rows else None)
    for i, word in enumerate(prompt.labels)
  ]


def _checked(held: Any, name: str, width: int) -> np.ndarray:
  array = nearest.float64(held)
  if array.ndim != 2 or array.shape[1] != width or not len(array):
    raise UserError(
      f'the prompt {name} has shape {array.shape}, but the model needs '
      f'(tokens, {width}); name its own model'
    )
  if not np.isfinite(array).all():
    raise UserError(
      f'the prompt {name} holds values that are not finite, so nothing is '
      'near it; take one from before its training diverged'
    )
  return array


def _spread(norms: np.ndarray) -> dict[str, float]:
  kinds = {'mean': np.mean, 'min': np.min, 'max': np.max}
  return {kind: _short(of(norms)) for kind, of in kinds.items()}


def _short(value: Any) -> Any:
  """Numbers, however nested, with six digits, which is what float32 knows."""
  if value is None:
    return None
  if isinstance(value, dict):
    return {key: _short(item) for key, item in value.items()}
  if isinstance(value, list) or np.ndim(value):
    return [_short(item) for item in value]
  return float(f'{value:.6g}')
