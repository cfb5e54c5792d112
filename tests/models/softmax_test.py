"""The softmax of attention: its values, its gradient, what of it is kept."""

import jax
import jax.numpy as jnp
import numpy as np

from ptjax.models import softmax, stack


def blocks(scale=30.0):
  rng = np.random.default_rng(0)
  return [
    jnp.asarray(rng.normal(size=(2, n)) * scale, jnp.float32) for n in (3, 1, 4)
  ]


def plain(scores):
  return jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1)


def ours(scores, dtype=jnp.float32):
  return jnp.concatenate(softmax.over(scores, dtype), axis=-1)


def test_one_softmax_over_all_blocks():
  np.testing.assert_allclose(ours(blocks()), plain(blocks()), atol=1e-7)
  narrow = ours(blocks(), jnp.bfloat16)
  assert narrow.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    narrow.astype(jnp.float32), plain(blocks()), rtol=2**-8
  )


def test_its_gradient_is_that_of_the_plain_one():
  slope = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)
  # Not so far apart that one score alone counts, and nothing has a slope.
  want, got = (
    jax.grad(lambda scores, of=of: jnp.sum(of(scores) * slope))(blocks(1.0))
    for of in (plain, ours)
  )
  for found, expected in zip(got, want, strict=True):
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_backward_pass_reads_the_weights_alone():
  """Where they are kept, no power is computed again."""

  def loss(scores, policy):
    def inner(scores):
      return jnp.sum(ours(scores, jnp.bfloat16).astype(jnp.float32) ** 2)

    return jax.checkpoint(inner, policy=policy)(scores)

  def powers(policy):
    made = jax.make_jaxpr(jax.grad(lambda s: loss(s, policy)))(blocks())
    return str(made).count(' exp ')

  assert powers(stack.POLICIES['products']) == len(blocks())
  assert powers(stack.POLICIES['linear']) == 2 * len(blocks())
