"""What to change in a run that does not fit: the smallest change first.

Owns the candidates, their order and the estimate that leaves out those which
cannot fit. Whether one really does is asked of whoever compiles it.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from ptjax import mesh
from ptjax.config import REMAT

# A change that costs more comes later. Rows of a batch that share a device's
# weights cost nothing; cut weights are sent at every use; a layer computed
# again takes half as long again, its scores alone little; a smaller batch reads
# weights more often. Eight bits are another model, if a near one: the last.
_COST = {'mesh.fsdp': 1.0, 'mesh.tensor': 1.5, 'accumulate': 2.2, 'int8': 6.0}
_REMAT = {'products': 0.5, 'linear': 1.2, 'full': 2.0}


def changes(config: Any, devices: int) -> Iterator[dict[str, Any]]:
  """Sets of keys that make a run smaller on a device, cheapest first."""
  options = itertools.product(
    *(_meshes(config, devices), _remat(config)),
    *(_accumulate(config), _int8(config)),
  )
  found = []
  for choice in options:
    words: dict[str, Any] = {}
    cost = 0.0
    for more, price in choice:
      words |= more
      cost += price
    if words:
      found.append((cost, len(words), words))
  # Equal ones in the order they were made: a smaller change before a larger.
  found.sort(key=lambda each: each[:2])
  for _, _, words in found:
    yield words


def _meshes(config: Any, devices: int) -> Iterator[tuple[dict, float]]:
  """Those that hold no more of the weights on a device."""
  yield {}, 0.0
  now = mesh.sizes(config.mesh, devices)
  for tensor in _divisors(devices):
    for fsdp in _divisors(devices // tensor):
      shape = (devices // tensor // fsdp, fsdp, tensor)
      if shape == now or fsdp * tensor < now[1] * now[2]:
        continue
      cost = _COST['mesh.fsdp'] * (fsdp > 1)
      cost += _COST['mesh.tensor'] * math.log2(tensor)
      # Among equals, fewer parts.
      yield _named(shape), cost + 0.01 * math.log2(fsdp * tensor)


def _named(shape: tuple[int, ...]) -> dict[str, int]:
  return {f'mesh.{axis}': n for axis, n in zip(mesh.AXES, shape)}


def _remat(config: Any) -> Iterator[tuple[dict, float]]:
  yield {}, 0.0
  for policy in REMAT[REMAT.index(config.remat) + 1 :]:
    yield {'remat': policy}, _REMAT[policy]


def _accumulate(config: Any) -> Iterator[tuple[dict, float]]:
  yield {}, 0.0
  now, rows = config.train.accumulate, config.train.batch_size
  for parts in _divisors(rows):
    if parts > now and parts % now == 0:
      cost = _COST['accumulate'] * math.log2(parts / now) ** 0.5
      yield {'train.accumulate': parts}, cost


def _int8(config: Any) -> Iterator[tuple[dict, float]]:
  yield {}, 0.0
  if config.weights != 'int8':
    yield {'weights': 'int8'}, _COST['int8']


def _divisors(number: int) -> list[int]:
  return [n for n in range(1, number + 1) if number % n == 0]
