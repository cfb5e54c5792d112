"""Products and their gradients, whatever the type and shape of their sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ptjax.models import products

B, T, D, H, K = 3, 5, 7, 2, 4


def sides(*shapes, dtype):
  keys = jax.random.split(jax.random.key(0), len(shapes))
  return [jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes)]


def plain(left, right):
  return jnp.matmul(left, right)


@pytest.mark.parametrize(
  'ours,theirs,shapes',
  [
    (products.product, plain, [(B, T, D), (B, D, K)]),
    (products.product, plain, [(H, B, T, D), (H, 1, D, K)]),  # one for all rows
    (products.product, plain, [(H, 1, T, D), (H, B, D, K)]),
    (products.linear, plain, [(B, T, D), (D, K)]),
    (products.linear, None, [(B, T, D), (D, H, K)]),
  ],
)
def test_a_product_has_the_gradient_of_the_plain_one(ours, theirs, shapes):
  theirs = theirs or (lambda x, kernel: jnp.tensordot(x, kernel, axes=1))
  pair = sides(*shapes, dtype=jnp.float32)
  want, pull = jax.vjp(theirs, *pair)
  got, ours_pull = jax.vjp(ours, *pair)
  slope = jax.random.normal(jax.random.key(9), want.shape)
  for found, expected in zip(
    (got, *ours_pull(slope)), (want, *pull(slope)), strict=True
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('ours', [products.product, products.linear])
def test_narrow_sides_stay_narrow_in_the_gradient(ours):
  """Or units for narrow numbers lie idle in the backward pass."""
  pair = sides((T, D), (D, K), dtype=jnp.bfloat16)

  def loss(left, right):
    return jnp.sum(ours(left, right).astype(jnp.float32) ** 2)

  both = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*pair)
  dots = [
    eqn for eqn in _equations(both.jaxpr) if eqn.primitive.name == 'dot_general'
  ]
  assert len(dots) == 3
  assert {v.aval.dtype for eqn in dots for v in eqn.invars} == {
    jnp.dtype(jnp.bfloat16)
  }
  assert {eqn.outvars[0].aval.dtype for eqn in dots} == {jnp.dtype(jnp.float32)}
  wide = jax.grad(loss)(*(x.astype(jnp.float32) for x in pair))
  narrow = jax.grad(loss)(*pair).astype(jnp.float32)
  assert jnp.linalg.norm(narrow - wide) < 0.01 * jnp.linalg.norm(wide)


def test_a_narrow_kernel_makes_the_sides_narrow():
  """Whatever is between two products may be wider than their sides."""
  x, wide = sides((T, D), (D, K), dtype=jnp.float32)
  kernel = wide.astype(jnp.bfloat16)
  both = jax.make_jaxpr(jax.grad(lambda x: products.linear(x, kernel).sum()))(x)
  dots = [
    eqn for eqn in _equations(both.jaxpr) if eqn.primitive.name == 'dot_general'
  ]
  types = {v.aval.dtype for eqn in dots for v in eqn.invars}
  assert types == {jnp.dtype(jnp.bfloat16)}
  assert both.out_avals[0].dtype == jnp.float32
  found = products.linear(x, kernel)
  assert found.dtype == jnp.float32
  narrow = x.astype(jnp.bfloat16).astype(jnp.float32)
  want = narrow @ kernel.astype(jnp.float32)
  np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
  # A wide kernel is read in the type of what it multiplies.
  thin = products.linear(x.astype(jnp.bfloat16), wide)
  assert thin.dtype == jnp.bfloat16


def _equations(jaxpr):
  for eqn in jaxpr.eqns:
    yield eqn
    for value in eqn.params.values():
      inner = getattr(value, 'jaxpr', None)
      if inner is not None:
        yield from _equations(inner)
