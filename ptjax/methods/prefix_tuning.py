"""Prefix tuning: keys and values in front of an attention's own (Li and Liang
2021, §4), and P-tuning v2's deep prompts (Liu et al. 2022), which are the same
without an mlp.

Owns a prefix of each chosen attention, as it is or as an mlp makes it of rows.
Knows that an attention reads the ports `prefix_key` and `prefix_value`; knows
nothing of networks.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.config import UserError, one_of
from ptjax.methods import base, initializers

INITS = ('zeros', *initializers.STARTS)


@dataclasses.dataclass(frozen=True)
class Method(base.Method):
  """`length` places in front of the keys of every layer.

  Attributes:
    init: where keys and values start: uniform, zeros, or else those that the
      frozen model makes of the virtual tokens that a soft prompt would start
      from, such as the pieces of a text. With an mlp it is where its rows do;
      zeros is then its last map.
    targets: ends of the attentions' names; () = all.
    hidden: units of the mlp, which files leave out; 0 = none.
  """

  length: int
  init: str
  low: float
  high: float
  population: int
  targets: tuple[str, ...]
  hidden: int

  tune = ('prefix_tuning/.*',)

  def __post_init__(self):
    one_of('method.init', self.init, INITS)
    if self.length < 1:
      raise UserError(f'method.length={self.length} must be at least 1 place')
    if self.hidden < 0:
      raise UserError(
        f'method.hidden={self.hidden} must be at least 0, which is no mlp'
      )

  @property
  def prefix(self) -> int:
    return self.length

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    known = start.attentions
    scopes = base.chosen(
      known, self.targets, default=tuple(known), kind='attention'
    )
    keys = dict(zip(scopes, jax.random.split(rng, len(scopes))))
    if self.hidden:
      made = {s: self._mlp(keys[s], start, known[s]) for s in scopes}
    elif self.init in ('uniform', 'zeros'):
      made = {s: self._values(keys[s], known[s]) for s in scopes}
    else:
      of_rows = start.key_values(self._rows(rng, start))
      made = {s: dict(zip(base.PREFIX, of_rows[s])) for s in scopes}
    return {'prefix_tuning': base.nested(made)}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return _ported(own['prefix_tuning'])

  def kept(self, tuned: dict[str, Any]) -> dict[str, Any]:
    """Without the mlp, only what it makes."""
    return tuned | {'prefix_tuning': _ported(tuned['prefix_tuning'])}

  def _rows(self, rng: jax.Array, start: base.Start) -> jax.Array:
    init = 'uniform' if self.init == 'zeros' else self.init
    given = {'low': self.low, 'high': self.high, 'population': self.population}
    return initializers.rows(rng, start, init=init, length=self.length, **given)

  def _values(self, rng: jax.Array, of: base.Attention) -> dict[str, jax.Array]:
    shape = (of.layers, of.heads, self.length, of.size)
    if self.init == 'zeros':
      key = value = jnp.zeros(shape, jnp.float32)
    else:
      key, value = (
        initializers.uniform(one, shape, low=self.low, high=self.high)
        for one in jax.random.split(rng)
      )
    return dict(zip(base.PREFIX, (key.swapaxes(2, 3), value)))

  def _mlp(
    self, rng: jax.Array, start: base.Start, of: base.Attention
  ) -> dict[str, jax.Array]:
    """Rows [P, D], and two maps as torch begins them, as PEFT has it."""
    rows_rng, *keys = jax.random.split(rng, 5)
    rows_PxD = self._rows(rows_rng, start)
    inner = (rows_PxD.shape[1], self.hidden)
    outer = (self.hidden, of.layers, 2, of.heads, of.size)
    made = {'rows': rows_PxD}
    for name, shape in (('inner', inner), ('outer', outer)):
      bound = shape[0] ** -0.5
      for part, size in (('kernel', shape), ('bias', shape[1:])):
        drawn = initializers.uniform(keys.pop(), size, low=-bound, high=bound)
        zero = name == 'outer' and self.init == 'zeros'
        made[f'{name}_{part}'] = 0 * drawn if zero else drawn
    return made


def _ported(node: dict[str, Any]) -> dict[str, Any]:
  """The ports; of what they are themselves, themselves."""
  if 'rows' not in node:
    return {
      name: _ported(inner) if isinstance(inner, dict) else inner
      for name, inner in node.items()
    }
  inner_PxF = jnp.tanh(node['rows'] @ node['inner_kernel'] + node['inner_bias'])
  both = jnp.tensordot(inner_PxF, node['outer_kernel'], 1) + node['outer_bias']
  key_NxHxKxP = both[:, :, 0].transpose(1, 2, 3, 0)
  value_NxHxPxK = both[:, :, 1].transpose(1, 2, 0, 3)
  return dict(zip(base.PREFIX, (key_NxHxKxP, value_NxHxPxK)))
