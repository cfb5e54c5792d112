"""Input-tuning: a prompt, and a small network on each input (An et al. 2022).

Owns the two maps of e + up(gelu(down(e))), for the embedding e of every piece
that is read, and rows of virtual tokens as `soft_prompt` has them. Knows that
the embedding reads the ports `input_down` and `input_up`; knows nothing of
networks. The paper does not say how wide its hidden layer is drawn at the
start, nor which function is in it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.config import UserError
from ptjax.methods import soft_prompt
from ptjax.methods.base import Start


@dataclasses.dataclass(frozen=True)
class Method(soft_prompt.Method):
  """`up` starts at zero: step 0 is that of the prompt alone.

  Attributes:
    hidden: units of the network; 0 = twice the embedding's width.
  """

  hidden: int

  tune = ('prompt/.*', 'input/.*')

  def __post_init__(self):
    super().__post_init__()
    if self.hidden < 0:
      raise UserError(f'method.hidden={self.hidden} must be at least 0')

  def create(self, rng: jax.Array, start: Start) -> dict[str, Any]:
    # The prompt is the one that `soft_prompt` draws from the same seed.
    own = super().create(rng, start)
    width = start.embedding_VxD.shape[1]
    hidden = self.hidden or 2 * width
    noise = jax.random.normal(jax.random.fold_in(rng, 1), (width, hidden))
    down = width**-0.5 * noise.astype(jnp.float32)
    return own | {
      'input': {'down': down, 'up': jnp.zeros((hidden, width), jnp.float32)}
    }

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    ports = super().expand(own)['token_embedder']
    maps = {f'input_{name}': leaf for name, leaf in own['input'].items()}
    return {'token_embedder': ports | maps}
