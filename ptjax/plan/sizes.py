"""What a device holds in training, by shapes alone.

Owns the estimate where nothing is compiled: weights and state by their places,
activations by `ptjax.memory`. Knows no compiler.
"""

import numpy as np

from ptjax import mesh, parts
from ptjax.plan import steps


def weights(made: parts.Parts) -> int:
  """Bytes of frozen weights that a device holds."""
  return mesh.bytes_on_one(made.loaded.params)


def temporary(made: parts.Parts) -> int:
  """Bytes that a training step of all members holds beside the weights, about.

  Weights that are cut over fsdp are gathered a layer at a time, those in eight
  bits are multiplied in another type; that one layer is in it.
  """
  longest = steps.lengths(made.config)
  each = made.member_bytes(length=longest.inputs, target=longest.targets)
  return len(made.members) * each + _at_work(made)


def _at_work(made: parts.Parts) -> int:
  """One layer's weights as they are used, beside what is held of them."""
  fsdp = made.layout.mesh.shape['fsdp']
  held = weights(made) // made.loaded.config.num_layers
  gathered = held * (fsdp - 1)
  if made.config.weights != 'int8':
    return gathered
  itemsize = np.dtype(made.tuned_model.model.dtype).itemsize
  return gathered + held * fsdp * itemsize
