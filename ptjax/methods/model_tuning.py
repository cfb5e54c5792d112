"""Model tuning: every weight trains, the baseline of the paper (Figure 1)."""

import dataclasses
from typing import Any

import jax

from ptjax.methods import base


@dataclasses.dataclass(frozen=True)
class Method(base.Method):
  """No parameters of its own: the model's leaves move to the tuned tree."""

  tune = ('model/.*',)

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    return {}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return {}
