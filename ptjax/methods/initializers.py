"""Where virtual tokens start (Lester et al. 2021, §3.2).

Pure functions of a key and of the frozen model's embedding rows; all return
float32 rows. Know no method, tokenizer or network.
"""

import logging
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ptjax.config import UserError
from ptjax.methods.base import Start

STARTS = ('labels', 'vocabulary', 'uniform', 'text', 'file')


def rows(
  rng: jax.Array,
  start: Start,
  *,
  init: str,
  length: int,
  low: float = -0.5,
  high: float = 0.5,
  population: int = 5000,
) -> jax.Array:
  """`length` rows of the embedding's width, by the name of their start."""
  table, known = start.embedding_VxD, {'population': population}
  shape = (length, table.shape[1])
  if init == 'uniform':
    return uniform(rng, shape, low=low, high=high)
  if init == 'file':
    return from_array(start.prompt_PxD, shape)
  if init == 'text':
    return text(rng, table, ids=start.text_ids, length=length, **known)
  if init == 'labels':
    # A task of free text has none: then all rows are from the vocabulary.
    ids = start.label_ids
    return class_labels(rng, table, label_ids=ids, length=length, **known)
  return sampled_vocab(rng, table, length=length, **known)


def uniform(
  rng: jax.Array,
  shape: Sequence[int],
  *,
  low: float = -0.5,
  high: float = 0.5,
) -> jax.Array:
  """Independent values in [low, high): the paper's; T5X had [0, 0.5)."""
  if not low < high:
    raise UserError(f'method.low={low} must be below method.high={high}')
  return jax.random.uniform(
    rng, tuple(shape), jnp.float32, minval=low, maxval=high
  )


def sampled_vocab(
  rng: jax.Array,
  embedding_VxD: jax.Array,
  *,
  length: int,
  population: int = 5000,
) -> jax.Array:
  """Rows of the first `population` pieces, roughly the most frequent ones.

  No row comes twice, unless there are fewer than `length` to choose from.
  """
  if population < 1:
    raise UserError(f'method.population={population} must be at least 1')
  rows = embedding_VxD.shape[0]
  if population > rows:
    logging.info(
      'method.population=%d: the vocabulary has %d rows, all are drawn from',
      population,
      rows,
    )
    population = rows
  chosen_P = jax.random.choice(
    rng, population, (length,), replace=length > population
  )
  return _rows(embedding_VxD, chosen_P)


def class_labels(
  rng: jax.Array,
  embedding_VxD: jax.Array,
  *,
  label_ids: Sequence[Sequence[int]],
  length: int,
  population: int = 5000,
) -> jax.Array:
  """Row i is the mean over the pieces of label i.

  The rows behind the labels are those of `sampled_vocab`. Labels above
  `length` are left out, with a warning.
  """
  _check(label_ids, embedding_VxD)
  rows = [
    jnp.mean(_rows(embedding_VxD, ids), axis=0) for ids in label_ids[:length]
  ]
  if len(label_ids) > length:
    logging.warning(
      'method.init=labels: %d labels for %d virtual tokens, the last %d are '
      'left out',
      len(label_ids),
      length,
      len(label_ids) - length,
    )
  rest = sampled_vocab(rng, embedding_VxD, length=length, population=population)
  return _fill(rows, rest)


def text(
  rng: jax.Array,
  embedding_VxD: jax.Array,
  *,
  ids: Sequence[int],
  length: int,
  population: int = 5000,
) -> jax.Array:
  """One row for each piece of a text, the others as `sampled_vocab` has them.

  Of a text that is longer, the end is left out, with a warning.
  """
  _check([ids], embedding_VxD)
  if len(ids) > length:
    logging.warning(
      'method.init=text: the text has %d pieces for %d virtual tokens, its end '
      'is left out',
      len(ids),
      length,
    )
  rows = _rows(embedding_VxD, ids[:length])
  rest = sampled_vocab(rng, embedding_VxD, length=length, population=population)
  return _fill(rows, rest)


def from_array(array: Any, shape: tuple[int, int]) -> jax.Array:
  """A given array, if it has this shape."""
  found = np.shape(array)
  if found != tuple(shape):
    raise UserError(
      f'the array of method.file has shape {found}, but this run needs '
      f'{tuple(shape)}, method.length by the width of the model; set '
      'method.length to its rows, or name a prompt of such a model'
    )
  return jnp.asarray(array, jnp.float32)


def _check(groups: Sequence[Sequence[int]], embedding_VxD: jax.Array) -> None:
  """Refuses what an array would silently give something else for."""
  for ids in groups:
    if not len(ids):
      raise UserError(
        'the prompt cannot start from an empty text: name labels that are '
        'words, or set method.text, or choose another method.init'
      )
    if max(ids) >= embedding_VxD.shape[0] or min(ids) < 0:
      raise UserError(
        f'the tokenizer gives id {max(ids)}, but the embedding has '
        f"{embedding_VxD.shape[0]} rows: config.tokenizer is not this model's"
      )


def _rows(embedding_VxD: jax.Array, ids: Any) -> jax.Array:
  return jnp.asarray(embedding_VxD)[jnp.asarray(ids)].astype(jnp.float32)


def _fill(
  rows: jax.Array | Sequence[jax.Array], rest_PxD: jax.Array
) -> jax.Array:
  if not len(rows):
    return rest_PxD
  return rest_PxD.at[: len(rows)].set(jnp.stack(rows))
