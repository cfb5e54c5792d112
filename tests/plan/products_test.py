"""Operations and bytes against those counted by hand, loops and all."""

import jax
import jax.numpy as jnp
import pytest

from ptjax.models import int8
from ptjax.plan import products

B, D, F, N = 3, 5, 7, 4


def counted(function, *args, frozen, loops=1):
  return products.count(jax.make_jaxpr(function)(*args), frozen, loops=loops)


def arrays(*shapes, dtype=jnp.bfloat16):
  return [jnp.zeros(shape, dtype) for shape in shapes]


def test_a_product_reads_its_weights_and_moves_the_rest():
  x, w = arrays((B, D), (D, F))
  found = counted(lambda x, w: x @ w, x, w, frozen=[False, True])
  assert found.operations == 2 * B * D * F
  assert found.frozen == 2 * D * F
  assert found.moved == 2 * (B * D + B * F)


def test_heads_side_by_side_are_counted_each():
  q, k = arrays((2, 3, 4, 5), (2, 3, 6, 5), dtype=jnp.float32)
  found = counted(
    lambda q, k: jnp.einsum('bhtk,bhsk->bhts', q, k),
    *(q, k),
    frozen=[False, False],
  )
  assert found.operations == 2 * 2 * 3 * 4 * 6 * 5
  assert found.frozen == 0


def test_a_loop_is_counted_as_often_as_it_runs():
  """The compiler counts its body once; a layer's weights are their slice."""
  x, w = arrays((B, D), (N, D, D))

  def layers(x, w):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

  found = counted(layers, x, w, frozen=[False, True])
  assert found.operations == N * 2 * B * D * D
  assert found.frozen == N * 2 * D * D

  def until(x, w):
    return jax.lax.while_loop(
      lambda c: c[0] < 9, lambda c: (c[0] + 1, c[1] @ w), (0, x)
    )[1]

  x, w = arrays((B, D), (D, D))
  found = counted(until, x, w, frozen=[False, True], loops=6)
  assert found.operations == 6 * 2 * B * D * D
  assert found.frozen == 6 * 2 * D * D


def test_weights_stay_weights_on_their_way():
  x, w = arrays((B, F), (D, F))

  @jax.jit
  def inner(x, w):
    return x.astype(jnp.float32) @ w.T.astype(jnp.float32)

  found = counted(
    lambda x, w: inner(x, w.reshape(D, F)), x, w, frozen=[False, True]
  )
  assert found.frozen == 2 * D * F  # in the type that they are kept in
  found = counted(lambda x, w: x @ (w * 2).T, x, w, frozen=[False, True])
  assert found.frozen == 0


@pytest.mark.parametrize('remat', [False, True])
def test_a_gradient_has_the_products_that_it_takes(remat):
  """Forward, backward for activations alone; the first again with remat."""
  x, w, v = arrays((B, D), (D, F), (F, D), dtype=jnp.float32)

  def layer(x, w, v):
    return jnp.tanh(x @ w) @ v

  layer = jax.checkpoint(layer) if remat else layer
  found = counted(
    jax.grad(lambda x, w, v: jnp.sum(layer(x, w, v) ** 2)),
    *(x, w, v),
    frozen=[False, True, True],
  )
  one = 2 * B * D * F
  assert found.operations == (5 if remat else 4) * one
  assert found.frozen == (5 if remat else 4) * 4 * D * F


def test_weights_in_eight_bits_are_read_as_such():
  x, w = arrays((B, D), (D, F))
  q, scale = jnp.zeros((D, F), jnp.int8), jnp.zeros((F,), jnp.float32)

  def loss(x, q, scale):
    return int8.product(x, q, scale).sum()

  found = counted(loss, x, q, scale, frozen=[False, True, True])
  assert found.frozen == D * F
  found = counted(jax.grad(loss), x, q, scale, frozen=[False, True, True])
  assert found.operations == 2 * B * D * F  # of a sum, the gradient alone
  assert found.frozen == D * F


def test_members_share_their_weights():
  x, w = arrays((6, B, D), (D, F))
  each = jax.vmap(lambda x, w: x @ w, in_axes=(0, None))
  found = counted(each, x, w, frozen=[False, True])
  assert found.operations == 6 * 2 * B * D * F
  assert found.frozen == 2 * D * F
