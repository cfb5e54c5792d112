"""P-tuning: virtual tokens that a network makes of rows (Liu et al. 2021, §3).

Owns the rows and the network, a bidirectional LSTM of two layers or an mlp, in
the parametrisation of PEFT's. It is there for training: files hold the virtual
tokens that it made, as a soft prompt. Where they stand is said by `template`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.config import UserError, one_of
from ptjax.methods import base, initializers, soft_prompt

ENCODERS = ('lstm', 'mlp')
_LAYERS, _WAYS = 2, ('onward', 'backward')


@dataclasses.dataclass(frozen=True)
class Method(soft_prompt.Method):
  """A soft prompt by way of a network.

  Attributes:
    encoder: the network.
    hidden: its units, of the LSTM in each direction; 0 = as many as the model
      is wide, of the LSTM half of it, as in the paper.
  """

  encoder: str
  hidden: int

  tune = ('p_tuning/.*',)

  def __post_init__(self):
    super().__post_init__()
    one_of('method.encoder', self.encoder, ENCODERS)
    if self.hidden < 0:
      raise UserError(f'method.hidden={self.hidden} must be at least 0')

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    rows_rng, lstm_rng, mlp_rng = jax.random.split(rng, 3)
    rows_PxD = self._rows(rows_rng, start)
    width = rows_PxD.shape[1]
    own = {'rows': rows_PxD}
    if self.encoder == 'lstm':
      units = self.hidden or max(1, width // 2)
      own['lstm'] = _lstm(lstm_rng, width, units)
      sizes = 2 * units, 2 * units, width
    else:
      units = self.hidden or width
      sizes = width, units, units, width
    return {'p_tuning': own | {'mlp': _mlp(mlp_rng, sizes)}}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return super().expand(self.kept(own))

  def kept(self, tuned: dict[str, Any]) -> dict[str, Any]:
    """The virtual tokens alone, as of a soft prompt."""
    if 'p_tuning' not in tuned:
      return tuned
    rest = {k: v for k, v in tuned.items() if k != 'p_tuning'}
    own = tuned['p_tuning']
    x_PxI = own['rows']
    for layer in sorted(own.get('lstm', {})):
      x_PxI = _both_ways(own['lstm'][layer], x_PxI)
    for number in sorted(own['mlp']):
      if number != '0':
        x_PxI = jax.nn.relu(x_PxI)
      x_PxI = x_PxI @ own['mlp'][number]['kernel'] + own['mlp'][number]['bias']
    return rest | {'prompt': {'encoder': x_PxI}}


def _both_ways(layer: dict[str, Any], x_PxI: jax.Array) -> jax.Array:
  onward = _run(layer['onward'], x_PxI)
  backward = _run(layer['backward'], x_PxI[::-1])[::-1]
  return jnp.concatenate([onward, backward], axis=1)


def _run(weights: dict[str, jax.Array], x_PxI: jax.Array) -> jax.Array:
  """States [P, F] of one direction; gates stand as in torch: i, f, g, o."""
  given_Px4F = x_PxI @ weights['kernel'] + weights['bias']

  def step(carry, given_4F):
    cell_F, state_F = carry
    gates_4F = given_4F + state_F @ weights['recurrent']
    i, f, g, o = jnp.split(gates_4F, 4)
    cell_F = jax.nn.sigmoid(f) * cell_F + jax.nn.sigmoid(i) * jnp.tanh(g)
    state_F = jax.nn.sigmoid(o) * jnp.tanh(cell_F)
    return (cell_F, state_F), state_F

  zeros_F = jnp.zeros(weights['recurrent'].shape[0], given_Px4F.dtype)
  return jax.lax.scan(step, (zeros_F, zeros_F), given_Px4F)[1]


def _lstm(rng: jax.Array, width: int, units: int) -> dict[str, Any]:
  out: dict[str, Any] = {}
  for number, key in enumerate(jax.random.split(rng, _LAYERS)):
    inputs = 2 * units if number else width
    shapes = {
      'kernel': (inputs, 4 * units),
      'recurrent': (units, 4 * units),
      'bias': (4 * units,),
    }
    out[str(number)] = {
      way: _drawn(one, shapes, units)
      for way, one in zip(_WAYS, jax.random.split(key))
    }
  return out


def _mlp(rng: jax.Array, sizes: tuple[int, ...]) -> dict[str, Any]:
  keys = jax.random.split(rng, len(sizes) - 1)
  return {
    str(n): _drawn(key, {'kernel': (i, o), 'bias': (o,)}, i)
    for n, (key, i, o) in enumerate(zip(keys, sizes, sizes[1:]))
  }


def _drawn(
  rng: jax.Array, shapes: dict[str, tuple[int, ...]], units: int
) -> dict[str, jax.Array]:
  """As torch begins such maps: uniform, by the units that are summed over."""
  bound = units**-0.5
  return {
    name: initializers.uniform(key, shape, low=-bound, high=bound)
    for key, (name, shape) in zip(
      jax.random.split(rng, len(shapes)), shapes.items()
    )
  }
