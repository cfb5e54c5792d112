"""No method: the frozen model as it is, for evaluation without a prompt."""

import dataclasses
from typing import Any

import jax

from ptjax.methods.base import Start


@dataclasses.dataclass(frozen=True)
class Method:
  """Nothing trains."""

  tune = ()
  front = 0

  def create(self, rng: jax.Array, start: Start) -> dict[str, Any]:
    return {}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return {}
