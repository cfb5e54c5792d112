"""LoRA: a map of low rank beside a frozen one (Hu et al. 2021, §4.1).

Owns A and B of each chosen linear map, W x + (alpha / rank) B A x. Knows that a
linear map reads the ports `lora_a` and `lora_b`; knows nothing of networks.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.config import UserError
from ptjax.methods import base

# What PEFT chooses for T5 and Llama, and for GPT-2 and GPT-NeoX.
DEFAULT = ('query', 'value', 'query_key_value')


@dataclasses.dataclass(frozen=True)
class Method(base.Method):
  """A starts as noise, B at zero: at step 0 the model is the untuned one.

  Attributes:
    targets: ends of the names of the maps; () = queries and values.
  """

  rank: int
  alpha: float
  targets: tuple[str, ...]

  tune = ('lora/.*',)

  def __post_init__(self):
    if self.rank < 1:
      raise UserError(f'method.rank={self.rank} must be at least 1')
    if not self.alpha > 0:
      raise UserError(f'method.alpha={self.alpha} must be above 0')

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    scopes = base.chosen(start.linears, self.targets, default=DEFAULT)
    keys = jax.random.split(rng, max(1, len(scopes)))
    pairs = (self._pair(k, start.linears[s]) for k, s in zip(keys, scopes))
    return {'lora': base.nested(dict(zip(scopes, pairs)))}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    factor = self.alpha / self.rank

    def scaled(path, leaf):
      return leaf * factor if path[-1].key == 'lora_b' else leaf

    return jax.tree_util.tree_map_with_path(scaled, own['lora'])

  def _pair(self, rng: jax.Array, linear: base.Linear) -> dict[str, jax.Array]:
    # PEFT's A: Kaiming's with a = sqrt(5), which is this bound.
    bound = linear.inputs**-0.5
    shape = (*linear.stack, linear.inputs, self.rank)
    zeros = (*linear.stack, self.rank, *linear.features)
    return {
      'lora_a': jax.random.uniform(
        rng, shape, jnp.float32, minval=-bound, maxval=bound
      ),
      'lora_b': jnp.zeros(zeros, jnp.float32),
    }
