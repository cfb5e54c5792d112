"""Bfloat16 weights under float32, as on a CPU: what is narrow, and what not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goldens import causal_models, t5_models

from ptjax.config import REMAT
from ptjax.models import ports, products
from ptjax.weights import load

MODELS = {
  't5_1_1': t5_models,
  'gpt2': causal_models,
  'llama': causal_models,
  'pythia': causal_models,
}
NARROW = jnp.dtype(jnp.bfloat16)
SAID = 5  # positions of the T5's decoder: few, so not made narrow


@functools.cache
def case(name: str):
  """(model, its weights in bfloat16, what it reads, the rows of a prompt)."""
  golden = MODELS[name]
  found = load.load(str(golden.FOLDER / name))
  params = jax.tree_util.tree_map_with_path(_milder, found.params)
  params = jax.tree.map(lambda x: x.astype(NARROW), params)
  is_t5 = golden is t5_models
  arrays = golden.inputs(found.config.vocab_size) if is_t5 else golden.inputs()
  rows = golden.prompt(found.config.d_model)[0]
  virtual = np.arange(len(rows), dtype=np.int32) + found.config.vocab_size
  virtual = np.broadcast_to(virtual, (len(arrays['ids']), len(rows)))
  ids = np.concatenate([virtual, arrays['ids']], axis=1)
  mask = np.concatenate([virtual >= 0, arrays['mask']], axis=1)
  said = (arrays['decoder_ids'],) if is_t5 else ()
  return found.model, params, (ids, mask, *said), rows


def _milder(path, x):
  """The recorded T5 has scores so large that any rounding turns gradients."""
  return x / 8 if 'query' in jax.tree_util.keystr(path) else x


def loss(name: str, params, rows, **changes):
  model, _, read, _ = case(name)
  held = {'params': params, 'ports': {ports.PROMPT[0]: {'prompt': rows}}}
  logits = model.clone(**changes).apply(held, *read)
  return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[..., 7])


def equations(jaxpr):
  for eqn in jaxpr.eqns:
    yield eqn
    for value in eqn.params.values():
      for one in value if isinstance(value, tuple) else (value,):
        one = getattr(one, 'jaxpr', one)
        if hasattr(one, 'eqns'):
          yield from equations(one)


@pytest.mark.parametrize('name', MODELS)
def test_losses_and_gradients_are_those_of_the_same_numbers_kept_wide(name):
  _, narrow, _, rows = case(name)
  wide = jax.tree.map(lambda x: x.astype(jnp.float32), narrow)
  run = jax.jit(jax.value_and_grad(functools.partial(loss, name), argnums=1))
  (expected, slope), (found, ours) = run(wide, rows), run(narrow, rows)
  assert abs(found - expected) < 0.01 * abs(expected)
  error = np.linalg.norm(ours - slope) / np.linalg.norm(slope)
  assert 1e-5 < error < 0.05


@pytest.mark.parametrize('name', MODELS)
def test_all_products_of_many_rows_are_narrow(name):
  _, params, _, rows = case(name)
  slope = jax.grad(functools.partial(loss, name), argnums=1)
  found = [
    eqn
    for eqn in equations(jax.make_jaxpr(slope)(params, rows).jaxpr)
    if eqn.primitive.name == 'dot_general'
  ]
  assert len(found) > 12 and SAID < products.FEW
  for eqn in found:
    left, right = (v.aval for v in eqn.invars)
    if SAID not in (*left.shape[-2:], *right.shape[-2:]):
      assert left.dtype == right.dtype == NARROW, eqn
    assert eqn.outvars[0].aval.dtype == jnp.float32


@pytest.mark.parametrize('remat', REMAT)
@pytest.mark.parametrize('name', ['t5_1_1', 'pythia'])
def test_no_loop_carries_weights_made_wide(name, remat):
  """Nor the numbers of narrow ones, which XLA makes wide on a CPU."""
  _, params, _, rows = case(name)
  slope = jax.grad(functools.partial(loss, name, remat=remat), argnums=1)
  assert carried(slope, params, rows) == {jnp.dtype(jnp.uint16)}


def test_nor_does_the_loop_over_a_prefix():
  model, params, _, rows = case('pythia')
  ids = np.arange(len(rows), dtype=np.int32)[None] + model.config.vocab_size

  def size(params, rows):
    held = {'params': params, 'ports': {ports.PROMPT[0]: {'prompt': rows}}}
    found = model.apply(held, ids, ids >= 0, method='key_values')
    return jnp.sum(found['key'] ** 2) + jnp.sum(found['value'] ** 2)

  slope = jax.grad(size, argnums=1)
  assert carried(slope, params, rows) == {jnp.dtype(jnp.uint16)}


def carried(function, params, rows) -> set:
  """The types of what is shaped as all layers' kernels, into and out of loops
  forward and back."""
  shapes = {x.shape for x in jax.tree.leaves(params) if x.ndim >= 3}
  loops = [
    [v.aval for v in (*eqn.invars, *eqn.outvars) if v.aval.shape in shapes]
    for eqn in equations(jax.make_jaxpr(function)(params, rows).jaxpr)
    if eqn.primitive.name == 'scan'
  ]
  assert sum(map(bool, loops)) >= 2
  return {aval.dtype for avals in loops for aval in avals}


def test_rows_of_a_narrow_table_are_its_numbers_and_nobodys_row_is_none():
  table = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)), NARROW)
  ids = jnp.array([[0, 6, 2], [7, 5, 100]])
  found = products.rows(table, ids, jnp.float32)
  want = jnp.take(table.astype(jnp.float32), ids, axis=0, mode='fill')
  np.testing.assert_array_equal(found, want)
  assert np.isnan(found[1, 0]).all() and np.isnan(found[1, 2]).all()
  text = jax.jit(products.rows, static_argnums=2).lower(table, ids, jnp.float32)
  assert 'f32[7,3]' not in text.compile().as_text()
