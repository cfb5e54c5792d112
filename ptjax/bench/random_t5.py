"""T5 1.1 of published sizes at random, as folders both sides read.

Owns what is drawn. Knows neither side.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ptjax.models.t5 import T5, T5Config
from ptjax.weights import published, save

SIZES = {
  name: dataclasses.replace(published.T5_1_1[name], dropout_rate=0.0)
  for name in ('small', 'base', 'large', 'xl')
}


# So much likelier is a piece behind the one that it follows, its embedding that
# much larger, and the input is looked at that much more: it chooses the first.
_FOLLOWS, _LARGER, _LOOKS = 32.0, 4.0, 4.0


def write(
  folder: pathlib.Path,
  config: T5Config,
  *,
  answers: Iterable[Sequence[int]] = (),
) -> None:
  """A model of these sizes that is never done: its EOS has logit 0.

  Args:
    answers: ids with EOS; what it says is one of them instead, as a tuned model
      says a label. One in which another piece follows than in those before is
      left out.
  """
  model = T5(config)

  @jax.jit
  def draw(key):
    ids = jnp.zeros((1, 1), jnp.int32)
    return nn.unbox(model.init(key, ids, ids >= 0, ids))['params']

  params = draw(jax.random.key(0))
  head = params['head']
  head['kernel'] = head['kernel'].at[:, config.eos_id].set(0.0)
  if answers:
    _say(params, _follows(answers, start=config.decoder_start_id))
  save.save(folder, params, config)


def _say(params: Any, follows: Sequence[tuple[int, int]]) -> None:
  """Changes them so that what follows a piece is said behind it."""
  table, head = params['token_embedder'], params['head']
  for piece, follower in follows:
    row = table['embedding'][piece]
    toward = _FOLLOWS * row / jnp.linalg.norm(row)
    head['kernel'] = head['kernel'].at[:, follower].add(toward)
  pieces = jnp.array(sorted({follower for _, follower in follows}))
  table['embedding'] = table['embedding'].at[pieces].multiply(_LARGER)
  out = params['decoder']['layers']['cross_attention']['out']
  out['kernel'] = _LOOKS * out['kernel']


def _follows(
  answers: Iterable[Sequence[int]], *, start: int
) -> list[tuple[int, int]]:
  """(piece, what follows it) of all answers; only the first has a choice."""
  behind: dict[int, int] = {}
  first = set()
  for ids in answers:
    pairs = dict(zip(ids, ids[1:]))
    fits = all(
      behind.get(piece, next_) == next_ for piece, next_ in pairs.items()
    )
    if fits and len(pairs) == len(ids) - 1 and start not in ids:
      behind |= pairs
      first.add((start, ids[0]))
  return sorted(first) + sorted(behind.items())
