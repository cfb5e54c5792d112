"""What a device holds in training, by shapes alone.

Owns the estimate where nothing is compiled: weights by their places, the rest
by `parts`. Knows no compiler.
"""

from ptjax import mesh, parts
from ptjax.plan import steps


def weights(made: parts.Parts) -> int:
  """Bytes of frozen weights that a device holds."""
  return mesh.bytes_on_one(made.loaded.params)


def temporary(made: parts.Parts) -> int:
  """Bytes that a step of all members holds beside the weights, about."""
  longest = steps.lengths(made.config)
  shape = {'length': longest.inputs, 'target': longest.targets}
  each = made.member_bytes(**shape, remat=made.least)
  return len(made.members) * each + made.at_work
