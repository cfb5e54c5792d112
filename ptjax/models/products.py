"""The products that models are made of, summed in float32 or wider.

Owns in which type the sides of a product and of its gradient are. Knows no
layer. Narrow weights keep their type whatever is multiplied by them, since
matrix units read narrow numbers; what is between two products may be wider.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ptjax.models import stack

# Rows that are multiplied sooner than what they meet is made narrow.
FEW = 16


def wide(dtype: jnp.dtype) -> jnp.dtype:
  """What sums, norms and softmax are computed in: float32 or wider."""
  return jnp.promote_types(dtype, jnp.float32)


def _summed(
  of: Callable, left: jax.Array, right: jax.Array, **how
) -> jax.Array:
  return of(left, right, preferred_element_type=wide(left.dtype), **how)


def product(
  left: jax.Array, right: jax.Array, *, narrow: jnp.dtype | None = None
) -> jax.Array:
  """[…, T, I] times […, I, O], summed in float32, or in float64 where they are.

  So are the products of its gradient, whose sides are in the type of these, as
  units for narrow numbers need it; JAX's own rule widens both.

  Args:
    narrow: the type of the sides, where it is not that of `left`; of FEW rows
      it is.
  """
  few = left.shape[-2] < FEW
  return _product(left.dtype if few else narrow or left.dtype, left, right)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(dtype, left, right):
  if left.dtype == dtype:
    return _summed(jnp.matmul, left, right)
  return _narrowed(dtype, left, right)


def _product_forward(dtype, left, right):
  return _product(dtype, left, right), (left, right)


def _product_backward(dtype, sides, slope):
  left, right = sides
  if left.dtype == dtype:
    slope = slope.astype(dtype)
    to_left = _summed(jnp.matmul, slope, right.mT)
    to_right = _summed(jnp.matmul, left.mT, slope)
    return _as(left, to_left), _as(right, to_right)
  to_left = _narrowed(dtype, slope, right.mT)
  # A transposed copy is made: of the smaller side.
  if left.size <= slope.size:
    to_right = _narrowed(dtype, left.mT, slope)
  else:
    to_right = _narrowed(dtype, slope.mT, left).mT
  return _as(left, to_left), _as(right, to_right)


_product.defvjp(_product_forward, _product_backward)


def _narrowed(dtype, left, right):
  """The product of both sides in a narrower type.

  On a CPU XLA multiplies narrow numbers as such only where all lies in the
  order of its axes; sides that do not it widens again, and of a result that is
  transposed it makes a product that it cannot compute. A reshape behind a
  barrier has that order.
  """

  def laid(x):
    return jax.lax.optimization_barrier(x[..., None])[..., 0]

  sides = laid(left.astype(dtype)), laid(right.astype(dtype))
  return laid(_summed(jnp.matmul, *sides))


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


def narrow(dtype: jnp.dtype, kernel: jax.Array) -> jnp.dtype:
  """The type in which a kernel is multiplied by what is of this type."""
  return kernel.dtype if kernel.dtype.itemsize == 2 else dtype


def _side(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return kernel.astype(narrow(x.dtype, kernel))


def linear(
  x: jax.Array, kernel: jax.Array, *, out_dtype: jnp.dtype | None = None
) -> jax.Array:
  """x times kernel over the last axis of x and the first of the kernel.

  Summed in float32, or in float64 where x is; other axes of the kernel follow.
  """
  return stack.keep(over_last(x, kernel).astype(out_dtype or x.dtype))


def rows(table: jax.Array, ids: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """Rows of a table in this type; NaN for an id that is none of its own.

  Rows of a narrow table that become wider are read as the integers of their
  bits: for numbers XLA would make the whole table wider first.
  """
  # 'fill' of integers is the largest one, whose bits are a NaN too.
  take = functools.partial(jnp.take, indices=ids, axis=0, mode='fill')
  if table.dtype == dtype or table.dtype.itemsize != 2:
    return take(table).astype(dtype)
  bits = jax.lax.bitcast_convert_type(table, jnp.uint16)
  return jax.lax.bitcast_convert_type(take(bits), table.dtype).astype(dtype)
