"""BitFit: only biases train (Ben Zaken et al. 2022).

Owns a change of each bias, started at zero. A model without any (T5, Llama)
gets new ones, which is said. Knows that linear maps and norms read the port
`delta_bias`; knows nothing of networks.
"""

import dataclasses
import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.methods import base

# Of a model that has no biases. None of keys: it would add the same to all
# scores of a query, which their softmax does not notice.
DEFAULT = ('query', 'value', 'out', 'wi', 'wi_0', 'wi_1', 'wo')


@dataclasses.dataclass(frozen=True)
class Method(base.Method):
  """Zeros: at step 0 the model is the untuned one.

  Attributes:
    targets: ends of the names of the maps, with a bias or without; () = all
      biases of the model or, where it has none, new ones.
  """

  targets: tuple[str, ...]

  tune = ('bitfit/.*',)

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    del rng
    shapes = {
      name: (*linear.stack, *linear.features)
      for name, linear in start.linears.items()
    }
    if start.biases and not self.targets:
      shapes = dict(start.biases)
    else:
      names = base.chosen(shapes, self.targets, default=DEFAULT)
      shapes = {name: shapes[name] for name in names}
      new = [name for name in shapes if name not in start.biases]
      _tell(len(new), len(shapes))
    zeros = {
      name: {'delta_bias': jnp.zeros(shape, jnp.float32)}
      for name, shape in shapes.items()
    }
    return {'bitfit': base.nested(zeros)}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return own['bitfit']


@functools.cache  # a population begins many times
def _tell(new: int, count: int) -> None:
  if new:
    logging.warning(
      'method.name=bitfit: %d of the %d biases that train are new, started at '
      'zero: the model has none there',
      new,
      count,
    )
