"""Frozen linear maps in eight bits: whole numbers, and a scale an output.

Owns the form, w ≈ q · s with |q| ≤ 127, and the product with it. Activations
keep their type: rounded too, they leave the outputs nearly as they are, but
rounding has no slope, and the gradient that reaches a prompt would be wrong.
Knows no model and no file.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ptjax.models import products

# What stands beside a `kernel` that is kept so.
SCALE = 'kernel_scale'
_LARGEST = 127


def scale(largest: np.ndarray) -> np.ndarray:
  """Scales of outputs by their largest |w|, float32; never 0."""
  return np.where(largest > 0, largest, 1).astype(np.float32) / _LARGEST


def rounded(w: np.ndarray, scale_: np.ndarray) -> np.ndarray:
  """The nearest q of w; halves to even."""
  q = w.astype(np.float32, copy=False) / scale_
  return np.rint(q, out=q).astype(np.int8)


@jax.custom_vjp
def product(x: jax.Array, q: jax.Array, scale_: jax.Array) -> jax.Array:
  """x over its last axis times q · scale over the first of q, summed wide.

  q becomes x's type where it is multiplied, exactly, and is kept nowhere in
  that type. Neither q nor scale has a gradient.
  """
  wide = products.wide(x.dtype)
  y = jnp.tensordot(x, q.astype(x.dtype), axes=1, preferred_element_type=wide)
  return y * scale_.astype(wide)


def _forward(x, q, scale_):
  return product(x, q, scale_), (jnp.zeros((), x.dtype), q, scale_)


def _backward(kept, slope):
  like, q, scale_ = kept
  slope = (slope * scale_.astype(slope.dtype)).astype(like.dtype)
  outputs = range(slope.ndim - q.ndim + 1, slope.ndim), range(1, q.ndim)
  back = jnp.tensordot(
    slope,
    q.astype(like.dtype),
    axes=tuple(map(tuple, outputs)),
    preferred_element_type=products.wide(like.dtype),
  )
  return back.astype(like.dtype), None, None


product.defvjp(_forward, _backward)
