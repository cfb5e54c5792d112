"""What to change in a run that does not fit: what loses least speed first.

Owns the candidates and their order. Whether one fits is asked of whoever
estimates or compiles it.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

from ptjax import mesh
from ptjax.config import AUTO, REMAT

# About the share of a step's time that a change costs, T5-XXL's on eight chips
# in mind. What is computed again is counted (BUILD.md): of products nothing,
# of scores a hundredth, of the whole layer four tenths. Weights that are cut
# over fsdp are sent at every use, activations at every layer cut over tensor;
# each part of a batch reads the weights once more, and is sent them. Eight bits
# are another model, if a near one: the last.
_REMAT = {'products': 0.005, 'linear': 0.02, 'full': 0.41}
_PART, _FSDP, _TENSOR, _INT8 = 0.1, 0.25, 0.3, 10.0


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
      more = max(0.0, _sending(shape) - _sending(now))
      # Among equals, fewer parts.
      yield _named(shape), more + 0.001 * math.log2(fsdp * tensor)


def _sending(shape: tuple[int, ...]) -> float:
  _, fsdp, tensor = shape
  return _FSDP * (fsdp > 1) + _TENSOR * math.log2(tensor)


def _named(shape: tuple[int, ...]) -> dict[str, int]:
  return {f'mesh.{axis}': n for axis, n in zip(mesh.AXES, shape)}


def _remat(config: Any) -> Iterator[tuple[dict, float]]:
  if config.remat == AUTO:  # by the estimate, which may be too careful
    less = tuple(_REMAT)
  else:
    yield {}, 0.0
    less = REMAT[REMAT.index(config.remat) + 1 :]
  for policy in less:
    yield {'remat': policy}, _REMAT[policy]


def _accumulate(config: Any) -> Iterator[tuple[dict, float]]:
  yield {}, 0.0
  now, rows = config.train.accumulate, config.train.batch_size
  for parts in _divisors(rows):
    if parts > now and parts % now == 0:
      yield {'train.accumulate': parts}, _PART * (parts / now - 1)


def _int8(config: Any) -> Iterator[tuple[dict, float]]:
  yield {}, 0.0
  if config.weights != 'int8':
    yield {'weights': 'int8'}, _INT8


def _divisors(number: int) -> list[int]:
  return [n for n in range(1, number + 1) if number % n == 0]
