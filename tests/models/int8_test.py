"""Linear maps in eight bits: rounding, the product and its gradient."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ptjax import tree
from ptjax.config import REMAT
from ptjax.models import int8, layers
from ptjax.models.t5 import T5, T5Config


def kernel(*shape, seed=0):
  """Outputs of very different sizes, as they have."""
  rng = np.random.default_rng(seed)
  outputs = np.exp(rng.normal(size=shape[1:]))
  return (rng.normal(size=shape) * outputs).astype(np.float32)


def kept(w):
  scale = int8.scale(np.abs(w).max(axis=0))
  return int8.rounded(w, scale), scale


def test_each_output_is_rounded_to_its_own_127th():
  w = kernel(37, 5, 3)
  w[:, 2, 1] = 0
  q, scale = kept(w)
  assert q.dtype == np.int8 and scale.shape == (5, 3)
  assert (np.abs(w - q * scale) <= 0.501 * scale).all()
  largest = np.abs(q.astype(int)).max(axis=0)
  assert largest[2, 1] == 0
  largest[2, 1] = 127
  assert (largest == 127).all()


@pytest.mark.parametrize('features', [(7,), (3, 2, 4)])
def test_the_product_is_that_of_what_was_rounded(features):
  """Value and gradient, alone and of several members side by side."""
  q, scale = kept(kernel(37, *features))
  x = np.random.default_rng(1).normal(size=(2, 3, 5, 37)).astype(np.float32)
  slope = np.random.default_rng(2).normal(size=(2, 3, 5, *features))
  slope = slope.astype(np.float32)

  def through(multiply, x):
    y, back = jax.vjp(multiply, x)
    return y, back(slope[0])[0]

  eight = functools.partial(through, lambda x: int8.product(x, q, scale))
  plain = functools.partial(
    through, lambda x: jnp.tensordot(x, q * scale, axes=1)
  )
  for run in (lambda f: f(x[0]), lambda f: jax.vmap(f)(x)):
    for found, want in zip(run(eight), run(plain)):
      assert found.shape == want.shape
      assert np.abs(found - want).max() < 1e-5 * np.abs(want).max()


def test_narrow_sides_are_summed_wide():
  """In bfloat16 as good as x and the gradient can be said."""
  q, scale = kept(kernel(600, 40))
  x = np.random.default_rng(1).normal(size=(8, 600))
  x = jnp.asarray(x, jnp.bfloat16)
  y, back = jax.vjp(lambda x: int8.product(x, q, scale), x)
  assert y.dtype == jnp.float32
  w = q.astype(np.float64) * scale
  want = np.asarray(x, np.float64) @ w
  assert np.abs(y - want).max() < 1e-6 * np.abs(want).max()
  (found,) = back(jnp.ones_like(y))
  want = np.ones((8, 40)) @ w.T
  assert found.dtype == jnp.bfloat16
  assert np.abs(found - want).max() < 0.01 * np.abs(want).max()


def test_a_map_reads_its_scale_where_it_has_one():
  module = layers.Linear(4, ('embed', 'mlp'), 1.0)
  x = np.random.default_rng(1).normal(size=(5, 37)).astype(np.float32)
  q, scale = kept(kernel(37, 4))
  params = {'kernel': q, int8.SCALE: scale}
  found = module.apply({'params': params}, x)
  want = module.apply({'params': {'kernel': q * scale}}, x)
  assert np.abs(found - want).max() < 1e-6 * np.abs(want).max()


CONFIG = T5Config(61, 64, 16, 256, 6, 1, 4)


def shapes(eight):
  """The parameters of a network without values."""
  ids = jnp.zeros((1, 4), jnp.int32)
  init = T5(CONFIG).init
  made = jax.eval_shape(init, jax.random.key(0), ids, ids >= 0, ids)
  out = {}
  for name, leaf in tree.flatten(nn.unbox(made)['params']).items():
    if eight and '/layers/' in name and name.endswith('/kernel'):
      out[name] = jax.ShapeDtypeStruct(leaf.shape, jnp.int8)
      name = name.removesuffix('kernel') + int8.SCALE
      shape = leaf.shape[0], *leaf.shape[2:]
      leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    out[name] = leaf
  return tree.unflatten(out)


@pytest.mark.parametrize('remat', REMAT)
def test_no_layer_keeps_its_weights_in_another_type(remat):
  """For the backward pass: they would be there twice."""
  model, ids = T5(CONFIG, remat=remat), jnp.zeros((1, 4), jnp.int32)

  def loss(prompt, params):
    held = {'params': params, 'ports': {'token_embedder': {'prompt': prompt}}}
    return model.apply(held, ids + 61, ids >= 0, ids).sum()

  def temporary(eight):
    prompt = jax.ShapeDtypeStruct((1, 64), jnp.float32)
    lowered = jax.jit(jax.grad(loss)).lower(prompt, shapes(eight))
    return lowered.compile().memory_analysis().temp_size_in_bytes

  layer = 4 * (4 * 64 * 64 + 3 * 64 * 256)
  assert temporary(True) - temporary(False) < 2 * layer
