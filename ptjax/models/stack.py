"""Layers that are compiled once: one program looped over stacked parameters.

Owns the loop, how narrow weights go through it and what is recomputed in the
backward pass. Knows no layer.
"""

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

_LINEAR, _ATTENTION = 'linear', 'attention'
_only = jax.checkpoint_policies.save_only_these_names
# What a layer keeps for its backward pass beside what goes into it; the rest is
# computed again. The names are those of `config.REMAT`.
POLICIES = {
  'products': _only(_LINEAR, _ATTENTION),
  'linear': _only(_LINEAR),
  'full': None,
}


def _but_numbers(primitive: Any, *_: Any, **__: Any) -> bool:
  """A policy that keeps all but weights which are there as bits.

  They come from behind a barrier; what else does is made again too.
  """
  return primitive.name not in ('bitcast_convert_type', 'optimization_barrier')


def keep(x: jax.Array) -> jax.Array:
  """Marks the result of a linear map, in the type that it is read in."""
  return checkpoint_name(x, _LINEAR)


def keep_attention(x: jax.Array) -> jax.Array:
  """Marks weights of attention: as many as pairs of positions."""
  return checkpoint_name(x, _ATTENTION)


def stack(
  layer: type[nn.Module],
  config: Any,
  *,
  length: int,
  scan: bool,
  remat: str,
  dtype: jnp.dtype,
  init: bool,
  inputs: dict[str, tuple],
  also: Sequence[str] = (),
  fields: Mapping[str, Any] = MappingProxyType({}),
) -> nn.Module:
  """`length` layers whose parameters are stacked on axis 0.

  `inputs` says for each method how its inputs behind the carried one meet the
  layers: along axis 0, or the same for all. Without scan the loop is unrolled.

  Args:
    remat: `none`, nothing is computed again; or a key of POLICIES. In a loop
      on a CPU `products` takes the least time: to write and read all that lies
      between two products takes longer than to compute it.
    dtype: of what goes from layer to layer. Narrower weights are looped over
      as the integers of their bits, which no compiler widens.
    init: whether the parameters are being made.
    also: methods that a gradient goes through too, with inputs as `__call__`'s;
      all of theirs is kept.
    fields: of the layer, beside its configuration.
  """
  # Behind the module: carried x first, and `deterministic` is the last.
  last = len(inputs['__call__']) + 1
  again = functools.partial(
    nn.remat, prevent_cse=not scan, static_argnums=(last,)
  )
  bits = jnp.dtype(dtype).itemsize > 2
  if bits:
    layer = _reading(layer, inputs, _from_bits, init=init)
    kept = (*also, '__call__') if remat == 'none' else also
    layer = again(layer, policy=_but_numbers, methods=kept) if kept else layer
  if remat != 'none':
    layer = again(layer, policy=POLICIES[remat])
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
  layers = nn.scan(layer, methods=lifted)
  if bits:
    layers = _reading(layers, inputs, _to_bits, init=init)
  return layers(config, **fields)


def _reading(layer, methods, function, *, init):
  """The layer, whose methods read function(a parameter) for each."""
  return nn.map_variables(
    layer,
    'params',
    lambda params: jax.tree.map(function, params),
    init=init,
    methods=list(methods),
  )


def _to_bits(x: jax.Array) -> jax.Array:
  if x.dtype != jnp.bfloat16:
    return x
  return jax.lax.bitcast_convert_type(x, jnp.uint16)


def _from_bits(x: jax.Array) -> jax.Array:
  if x.dtype != jnp.uint16:
    return x
  x = jax.lax.bitcast_convert_type(x, jnp.bfloat16)
  # Or XLA puts it into products, which then are none of narrow numbers.
  return jax.lax.optimization_barrier(x)
