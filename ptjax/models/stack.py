"""Layers that are compiled once: one program looped over stacked parameters.

Owns the loop and what is recomputed in the backward pass. Knows no layer.
"""

from typing import Any

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

_NAME = 'product'
_KEPT = jax.checkpoint_policies.save_only_these_names(_NAME)


def keep(x: jax.Array) -> jax.Array:
  """Marks a product, in the type that it is read in."""
  return checkpoint_name(x, _NAME)


def stack(
  layer: type[nn.Module],
  config: Any,
  *,
  length: int,
  scan: bool,
  remat: bool,
  inputs: dict[str, tuple],
) -> nn.Module:
  """`length` layers whose parameters are stacked on axis 0.

  `inputs` says for each method how its inputs behind the carried one meet the
  layers: along axis 0, or the same for all. Without scan the loop is unrolled.
  A loop keeps what is marked by `keep` for the backward pass, and computes what
  lies between again: to write and read that takes longer. With remat it keeps
  what goes into a layer alone.
  """
  if scan or remat:
    # Behind the module: carried x first, and `deterministic` is the last.
    last = len(inputs['__call__']) + 1
    layer = nn.remat(
      layer,
      prevent_cse=not scan,
      static_argnums=(last,),
      policy=None if remat else _KEPT,
    )
  lifted = {
    method: {
      'variable_axes': dict.fromkeys(('params', 'ports', 'intermediates'), 0),
      'split_rngs': {'params': True, 'dropout': True},
      'in_axes': axes,
      'length': length,
      'unroll': 1 if scan else length,
      'metadata_params': {nn.PARTITION_NAME: 'layers'},
    }
    for method, axes in inputs.items()
  }
  return nn.scan(layer, methods=lifted)(config)
