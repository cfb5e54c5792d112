"""The products that models are made of, summed in float32 or wider.

Owns in which type the sides of a product and of its gradient are. Knows no
layer. Narrow weights keep their type whatever is multiplied by them, since
matrix units read narrow numbers; what is between two products may be wider.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ptjax.models import stack


def wide(dtype: jnp.dtype) -> jnp.dtype:
  """What sums, norms and softmax are computed in: float32 or wider."""
  return jnp.promote_types(dtype, jnp.float32)


def _summed(
  of: Callable, left: jax.Array, right: jax.Array, **how
) -> jax.Array:
  return of(left, right, preferred_element_type=wide(left.dtype), **how)


@jax.custom_vjp
def product(left: jax.Array, right: jax.Array) -> jax.Array:
  """[…, T, I] times […, I, O], summed in float32, or in float64 where they are.

  So are the products of its gradient, whose sides are in the type of these, as
  units for narrow numbers need it; JAX's own rule widens both.
  """
  return _summed(jnp.matmul, left, right)


def _product_forward(left, right):
  return product(left, right), (left, right)


def _product_backward(sides, slope):
  left, right = sides
  slope = slope.astype(left.dtype)
  return (
    _as(left, _summed(jnp.matmul, slope, right.mT)),
    _as(right, _summed(jnp.matmul, left.mT, slope)),
  )


product.defvjp(_product_forward, _product_backward)


def _as(like: jax.Array, x: jax.Array) -> jax.Array:
  """x of this type and shape, summed where `like` was read more than once."""
  axes = [i for i, size in enumerate(like.shape) if size != x.shape[i]]
  return jnp.sum(x, axis=axes, keepdims=True).astype(like.dtype)


@jax.custom_vjp
def over_last(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """As `product`, over the last axis of x and the first of the kernel.

  The sides are in the kernel's type, if it is narrow, or else in that of x.
  """
  kernel = _side(x, kernel)
  return _summed(jnp.tensordot, x.astype(kernel.dtype), kernel, axes=1)


def _over_last_forward(x, kernel):
  return over_last(x, kernel), (x, kernel)


def _over_last_backward(given, slope):
  x, kernel = given
  rows = tuple(range(x.ndim - 1))
  back = tuple(range(x.ndim - 1, slope.ndim)), tuple(range(1, kernel.ndim))
  side = _side(x, kernel)
  slope, narrow = slope.astype(side.dtype), x.astype(side.dtype)
  # Of a frozen kernel the second is never asked for, and never computed.
  return (
    _summed(jnp.tensordot, slope, side, axes=back).astype(x.dtype),
    _summed(jnp.tensordot, narrow, slope, axes=(rows, rows)).astype(
      kernel.dtype
    ),
  )


over_last.defvjp(_over_last_forward, _over_last_backward)


def _side(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return kernel if kernel.dtype.itemsize == 2 else kernel.astype(x.dtype)


def linear(
  x: jax.Array, kernel: jax.Array, *, out_dtype: jnp.dtype | None = None
) -> jax.Array:
  """x times kernel over the last axis of x and the first of the kernel.

  Summed in float32, or in float64 where x is; other axes of the kernel follow.
  """
  return stack.keep(over_last(x, kernel).astype(out_dtype or x.dtype))
