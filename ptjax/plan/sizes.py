"""What a device holds in training, by shapes alone.

Owns the estimate where nothing is compiled: weights and state by their places,
activations by `ptjax.memory`. Knows no compiler.
"""

import math
from typing import Any

import jax

from ptjax import parts
from ptjax.plan import steps


def on_device(tree: Any) -> int:
  """Bytes of a device's part of arrays without values."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def weights(made: parts.Parts) -> int:
  """Bytes of frozen weights that a device holds."""
  return on_device(made.loaded.params)


def temporary(made: parts.Parts) -> int:
  """Bytes that a training step of all members holds beside the weights, about.

  Weights that are cut over fsdp are gathered for a layer at a time; that one is
  in it.
  """
  longest = steps.lengths(made.config)
  each = made.member_bytes(length=longest.inputs, target=longest.targets)
  return len(made.members) * each + _gathered(made)


def _gathered(made: parts.Parts) -> int:
  """One layer's weights, as they are when they are used."""
  fsdp = made.layout.mesh.shape['fsdp']
  if fsdp == 1:
    return 0
  layers = made.loaded.config.num_layers
  return weights(made) * (fsdp - 1) // layers
