"""Soft prompt: virtual tokens in front of the input (Lester et al. 2021, §2).

Owns a table of rows in embedding space. Knows that the embedding reads a port
`prompt`; knows nothing of networks.
"""

import dataclasses
from typing import Any

import jax

from ptjax.config import UserError, one_of
from ptjax.methods import initializers
from ptjax.methods.base import Start

INITS = ('labels', 'vocabulary', 'uniform', 'text', 'file')


@dataclasses.dataclass(frozen=True)
class Method:
  """`length` trained rows, started as `init` says (paper, §3.2, Figure 3b)."""

  length: int
  init: str
  low: float
  high: float
  population: int

  tune = ('prompt/.*',)

  def __post_init__(self):
    one_of('method.init', self.init, INITS)
    if self.length < 1:
      raise UserError(
        f'method.length={self.length} must be at least 1 virtual token'
      )

  @property
  def front(self) -> int:
    return self.length

  def create(self, rng: jax.Array, start: Start) -> dict[str, Any]:
    return {'prompt': {'encoder': self._rows(rng, start)}}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return {'token_embedder': {'prompt': own['prompt']['encoder']}}

  def _rows(self, rng: jax.Array, start: Start) -> jax.Array:
    table, length = start.embedding_VxD, self.length
    if self.init == 'uniform':
      return initializers.uniform(
        rng, length, dim=table.shape[1], low=self.low, high=self.high
      )
    if self.init == 'file':
      return initializers.from_array(start.prompt_PxD, (length, table.shape[1]))
    population = {'population': self.population}
    if self.init == 'text':
      return initializers.text(
        rng, table, ids=start.text_ids, length=length, **population
      )
    if self.init == 'labels':
      # A task of free text has none: then all rows are from the vocabulary.
      return initializers.class_labels(
        rng, table, label_ids=start.label_ids, length=length, **population
      )
    return initializers.sampled_vocab(rng, table, length=length, **population)
