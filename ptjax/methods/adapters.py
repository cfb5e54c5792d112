"""Adapters: a bottleneck behind each sublayer (Houlsby et al. 2019, §2.1).

Owns the two small maps and biases of each, y + up(gelu(down(y))), and lets the
norms train, as the paper does. Knows that a linear map reads the ports
`adapter_*`; knows nothing of networks.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.config import UserError
from ptjax.methods import base

# What a sublayer ends with: attention, attention to the input, mlp.
DEFAULT = ('out', 'wo')
# Of the first map, normal and cut at two of these (§3.6); the second is zero,
# as LoRA's is, so that scores of step 0 are the untuned model's.
STDDEV = 1e-2


@dataclasses.dataclass(frozen=True)
class Method(base.Method):
  """Identities: at step 0 the model is the untuned one.

  Attributes:
    bottleneck: R, its hidden features.
    targets: ends of the names of the maps that one stands behind; () = the
      last of each sublayer.
  """

  bottleneck: int
  targets: tuple[str, ...]

  tune = ('adapters/.*', r'model/.*norm/(scale|bias)')

  def __post_init__(self):
    if self.bottleneck < 1:
      raise UserError(
        f'method.bottleneck={self.bottleneck} must be at least 1 hidden feature'
      )

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    scopes = base.chosen(start.linears, self.targets, default=DEFAULT)
    keys = jax.random.split(rng, max(1, len(scopes)))
    each = (self._one(k, start.linears[s]) for k, s in zip(keys, scopes))
    return {'adapters': base.nested(dict(zip(scopes, each)))}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return own['adapters']

  def _one(self, rng: jax.Array, linear: base.Linear) -> dict[str, jax.Array]:
    stack, features, narrow = linear.stack, linear.features, self.bottleneck
    if len(features) > 1:
      raise UserError(
        f'method.targets={self.targets}: an adapter stands behind a map with '
        f'one axis of features, not {features}; choose of {DEFAULT}'
      )
    shape = (*stack, *features, narrow)
    noise = jax.random.truncated_normal(rng, -2.0, 2.0, shape, jnp.float32)
    return {
      'adapter_down': STDDEV * noise,
      'adapter_down_bias': jnp.zeros((*stack, narrow), jnp.float32),
      'adapter_up': jnp.zeros((*stack, narrow, *features), jnp.float32),
      'adapter_up_bias': jnp.zeros((*stack, *features), jnp.float32),
    }
