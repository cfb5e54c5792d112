"""IA3: frozen activations, rescaled (Liu et al. 2022, §3.3).

Owns a vector for each chosen linear map: of what it gives, or for the last of
an mlp of what it takes. Knows that a linear map reads the ports `scale` and
`scale_in`; knows nothing of networks.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.methods import base

# Keys, values and hidden units; where keys lie in one map with queries, all of
# that map, as PEFT has it for GPT-2 and GPT-NeoX.
DEFAULT = ('key', 'value', 'query_key_value', 'wo')
# Scaled on what goes in: the hidden units of an mlp.
INNER = 'wo'


@dataclasses.dataclass(frozen=True)
class Method(base.Method):
  """Vectors of ones: at step 0 the model is the untuned one.

  Attributes:
    targets: ends of the names of the maps; () = keys, values, hidden units.
  """

  targets: tuple[str, ...]

  tune = ('ia3/.*',)

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    scopes = base.chosen(start.linears, self.targets, default=DEFAULT)
    return {'ia3': base.nested({s: _ones(s, start.linears[s]) for s in scopes})}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return own['ia3']


def _ones(scope: str, linear: base.Linear) -> dict[str, jax.Array]:
  inner = scope.rpartition('/')[2] == INNER
  size = (linear.inputs,) if inner else linear.features
  ones = jnp.ones((*linear.stack, *size), jnp.float32)
  return {'scale_in' if inner else 'scale': ones}
