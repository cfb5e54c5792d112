"""Soft prompt: virtual tokens in front of the input (Lester et al. 2021, §2).

Owns a table of rows in embedding space. Knows that the embedding reads a port
`prompt`; knows nothing of networks.
"""

import dataclasses
from typing import Any

import jax

from ptjax.config import UserError, one_of
from ptjax.methods import base, initializers


@dataclasses.dataclass(frozen=True)
class Method(base.Method):
  """`length` trained rows, started as `init` says (paper, §3.2, Figure 3b)."""

  length: int
  init: str
  low: float
  high: float
  population: int

  tune = ('prompt/.*',)

  def __post_init__(self):
    one_of('method.init', self.init, initializers.STARTS)
    if self.length < 1:
      raise UserError(
        f'method.length={self.length} must be at least 1 virtual token'
      )

  @property
  def front(self) -> int:
    return self.length

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    given = dataclasses.asdict(self)
    return {'prompt': {'encoder': initializers.rows(rng, start, **given)}}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return {'token_embedder': {'prompt': own['prompt']['encoder']}}
