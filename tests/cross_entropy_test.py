"""The loss a few positions at a time is the loss of all logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from jax.extend import core as jax_core

from ptjax import config as config_lib
from ptjax import cross_entropy, step
from ptjax.methods import base
from ptjax.tuned import base as tuned_base

B, T, D, V = 3, 11, 7, 53


def head(frozen, x):
  return jnp.tanh(x) @ frozen


def drawn(kind, rows=B):
  rng = np.random.default_rng(0)
  return (
    jnp.asarray(rng.normal(size=(D, V)), kind),
    jnp.asarray(3 * rng.normal(size=(rows, T, D)), kind),
    jnp.asarray(rng.integers(0, V, (rows, T)), jnp.int32),
    jnp.asarray(rng.random((rows, T)) < 0.6),
  )


@pytest.mark.parametrize(
  'at_once,z_loss', [(1, 0.3), (2 * B, 0.3), (4 * B, 0.0), (1000, 0.3)]
)
def test_parts_give_the_sum_and_gradient_of_all_logits(
  at_once, z_loss, monkeypatch
):
  monkeypatch.setattr(cross_entropy, 'ROWS', at_once)
  with jax.enable_x64(True):
    frozen, x, targets, mask = drawn(jnp.float64)

    def whole(x):
      logits = head(frozen, x)
      return cross_entropy.of_logits(
        logits, targets, mask_BxT=mask, z_loss=z_loss
      )

    def parts(x, scale):
      return scale * cross_entropy.of_states(
        head, frozen, x, targets, mask_BxT=mask, z_loss=z_loss
      )

    want, want_slope = jax.value_and_grad(whole)(x)
    got, slope = jax.value_and_grad(parts)(x, 2.0)
    np.testing.assert_allclose(got, 2 * want, rtol=1e-12)
    np.testing.assert_allclose(slope, 2 * want_slope, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(parts(x, 1.0), want, rtol=1e-12)
  assert (np.asarray(slope)[~np.asarray(mask)] == 0).all()


def test_members_side_by_side_have_their_own_gradients():
  frozen, x, targets, mask = drawn(jnp.float32, rows=2 * B)

  def slope(x, targets, mask):
    return jax.grad(
      lambda x: cross_entropy.of_states(head, frozen, x, targets, mask_BxT=mask)
    )(x)

  def two(a):
    return a.reshape(2, B, *a.shape[1:])

  together = jax.vmap(slope)(two(x), two(targets), two(mask))
  for i in range(2):
    alone = slope(two(x)[i], two(targets)[i], two(mask)[i])
    np.testing.assert_allclose(together[i], alone, rtol=1e-5, atol=1e-6)


def shapes(jaxpr):
  """Of all values in a program and the programs within."""
  for eqn in jaxpr.eqns:
    yield from (v.aval.shape for v in eqn.outvars)
    for inner in jax_core.jaxprs_in_params(eqn.params):
      yield from shapes(inner)


def products(jaxpr, size):
  """How many products there are with a side of this size."""
  count = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'dot_general':
      count += any(size in v.aval.shape for v in (*eqn.invars, *eqn.outvars))
    for inner in jax_core.jaxprs_in_params(eqn.params):
      count += products(inner, size)
  return count


def program(tune, monkeypatch, rows=8):
  monkeypatch.setattr(cross_entropy, 'ROWS', rows)
  model, params = tiny.t5()
  c = config_lib.default()
  c.method.length, c.method.init = 6, 'uniform'
  made = tuned_base.make(model, base.make(c.method))
  tuned, frozen = made.init(jax.random.key(1), params, tune=tune)
  update = step._update(made, step.StepOptions())
  tx = optax.sgd(0.1)
  state = step.init_state(tuned, tx, rng=jax.random.key(2))
  run = functools.partial(update, tx=tx)
  return tiny.needed(jax.make_jaxpr(run)(state, frozen, tiny.batch()))


def test_a_step_with_a_frozen_head_never_holds_all_logits(monkeypatch):
  found = program((), monkeypatch)
  whole = (4, 5, tiny.CONFIG.vocab_size)
  assert whole not in set(shapes(found))
  # One for the logits, one for the gradient; none a third time.
  assert products(found, tiny.CONFIG.vocab_size) == 2


def test_a_head_that_trains_has_its_gradient(monkeypatch):
  found = program(('model/head/kernel', 'prompt/.*'), monkeypatch)
  assert (4, 5, tiny.CONFIG.vocab_size) in set(shapes(found))
  assert products(found, tiny.CONFIG.vocab_size) == 3
