"""No method: the frozen model as it is, for evaluation without a prompt."""

import dataclasses
from typing import Any

import jax

from ptjax.methods import base


@dataclasses.dataclass(frozen=True)
class Method(base.Method):
  """Nothing trains."""

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    return {}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return {}
