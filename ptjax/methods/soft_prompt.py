"""Soft prompt: virtual tokens around the input (Lester et al. 2021, §2).

Owns a table of rows in embedding space. Knows that the embedding reads a port
`prompt`; knows nothing of networks.
"""

import dataclasses
from typing import Any

import jax

from ptjax.config import UserError, one_of
from ptjax.methods import base, initializers
from ptjax.methods import template as templates


@dataclasses.dataclass(frozen=True)
class Method(base.Method):
  """Trained rows, started as `init` says (paper, §3.2, Figure 3b).

  Attributes:
    length: how many, all in front; of a template, those that it names.
    template: see `methods.template`; '' is the paper's.
  """

  length: int
  init: str
  low: float
  high: float
  population: int
  template: str

  tune = ('prompt/.*',)

  def __post_init__(self):
    one_of('method.init', self.init, initializers.STARTS)
    if self.length < 1:
      raise UserError(
        f'method.length={self.length} must be at least 1 virtual token'
      )
    self.places  # noqa: B018 (what is wrong with the template is told early)

  @property
  def places(self) -> base.Places:
    return templates.places(self.template, length=self.length)

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    return {'prompt': {'encoder': self._rows(rng, start)}}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return {'token_embedder': {'prompt': own['prompt']['encoder']}}

  def _rows(self, rng: jax.Array, start: base.Start) -> jax.Array:
    given = {'low': self.low, 'high': self.high, 'population': self.population}
    length = self.places.virtual
    return initializers.rows(rng, start, init=self.init, length=length, **given)
