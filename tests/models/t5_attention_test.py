"""T5's attention to an input whose keys and values are never made."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goldens import t5_models

from ptjax.models import int8, t5_attention
from ptjax.weights import load

D, H, K = 11, 3, 10
MODULE = t5_attention.Attention(D, H, K, 0.0)


def both(module, x, read, bias):
  made = module(x, *module.key_value(read), (bias,), deterministic=True)
  return made, module.absorbed(x, read, (bias,), deterministic=True)


def given(dtype):
  """(parameters, queries, what is read, a bias that hides some of it)."""
  rng = np.random.default_rng(0)
  x, read = rng.normal(size=(2, 5, D)), rng.normal(size=(2, 7, D))
  bias = np.where(rng.random((2, 1, 1, 7)) < 0.3, -1e9, 0)
  x, read, bias = (jnp.asarray(a, dtype) for a in (x, read, bias))

  def init(module):
    return module(x, *module.key_value(read), (bias,), deterministic=True)

  params = nn.init(init, MODULE)(jax.random.key(0))['params']
  params = jax.tree.map(lambda w: w.astype(dtype), nn.meta.unbox(params))
  return params, x, read, bias


@pytest.mark.parametrize('dtype,most', [('float64', 1e-13), ('float32', 2e-6)])
def test_it_is_attention_to_keys_and_values_and_so_are_its_slopes(dtype, most):
  with jax.enable_x64(dtype == 'float64'):
    params, x, read, bias = given(dtype)

    def number(which, params, x, read):
      y = nn.apply(both, MODULE)({'params': params}, x, read, bias)[which]
      return jnp.sum(jnp.sin(y)), y

    slope = jax.grad(number, argnums=(1, 2, 3), has_aux=True)
    made, absorbed = (slope(which, params, x, read) for which in (0, 1))
    for ours, theirs in zip(jax.tree.leaves(absorbed), jax.tree.leaves(made)):
      assert ours.dtype == dtype and np.abs(theirs).max() > 1e-3
      assert np.abs(ours - theirs).max() <= most * np.abs(theirs).max()


def test_of_narrow_kernels_it_is_as_near_to_wide_ones_as_keys_and_values():
  params, x, read, bias = given('float32')
  params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), params)
  wide = jax.tree.map(lambda w: w.astype(jnp.float32), params)
  run = nn.apply(both, MODULE)
  exact, _ = run({'params': wide}, x, read, bias)
  for found in run({'params': params}, x, read, bias):
    assert found.dtype == jnp.float32
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.01


@pytest.mark.parametrize('case', sorted(t5_models.CASES))
def test_first_answers_by_it_are_transformers(case):
  """Of one position, so that heads of three features absorb."""
  loaded = load.load(str(t5_models.FOLDER / case))
  arrays = t5_models.inputs(loaded.config.vocab_size)
  read = arrays['ids'], arrays['mask'], arrays['decoder_ids'][:, :1]
  made = []
  with nn.intercept_methods(noted(made)):
    found = loaded.model.apply({'params': loaded.params}, *read)
  assert not any('cross_attention' in name for name in made) and made
  expected = np.load(t5_models.FOLDER / case / 'golden.npz')['logits'][:, :1]
  error = np.abs(found - expected).max() / np.abs(expected).max()
  assert error <= 1e-5


def noted(names):
  """Where keys and values are made."""

  def interceptor(function, args, kwargs, context):
    if context.method_name == 'key_value':
      names.append('/'.join(context.module.path))
    return function(*args, **kwargs)

  return interceptor


@pytest.mark.parametrize(
  'queries,keys,held,absorbs',
  [
    (5, 7, {}, True),
    (6, 7, {}, False),
    (5, 5, {}, False),
    (5, 7, {'key': {'lora_a': jnp.ones((D, 1))}}, False),
    (5, 7, {'value': {'scale': jnp.ones(H * K)}}, False),
    (5, 7, {'query': {'scale': jnp.ones(H * K)}}, True),
    (5, 7, {'prefix_key': jnp.ones((H, K, 2))}, False),
  ],
)
def test_few_queries_absorb_what_is_a_kernel_alone(
  queries, keys, held, absorbs
):
  params, *_ = given('float32')
  bound = MODULE.bind({'params': params, 'ports': held})
  assert bound.absorbs(queries, keys) == absorbs


def test_kernels_in_eight_bits_are_not_absorbed():
  params, *_ = given('float32')
  params['key'] |= {int8.SCALE: jnp.ones(H * K)}
  assert not MODULE.bind({'params': params}).absorbs(1, 7)
