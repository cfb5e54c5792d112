"""Scores of answers, and which one wins."""

import jax.numpy as jnp
import numpy as np
import pytest

from ptjax.predict import rank


def test_log_probs_are_summed_over_what_the_mask_shows():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 4, 7)) * 5
  targets = rng.integers(0, 7, (3, 4))
  mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
  log_z = np.log(np.exp(logits).sum(-1))
  each = np.take_along_axis(logits, targets[..., None], -1)[..., 0] - log_z
  sums, counts = rank.log_probs(
    jnp.asarray(logits, jnp.float32), targets, target_mask_BxT=mask
  )
  np.testing.assert_allclose(sums, (each * mask).sum(-1), rtol=1e-6)
  assert counts.tolist() == [4, 2, 0] and sums[2] == 0
  assert sums.dtype == counts.dtype == jnp.float32


def test_what_is_behind_the_mask_may_be_infinite():
  logits = np.zeros((1, 2, 3), np.float32)
  logits[0, 1] = [0, -np.inf, 0]
  sums, _ = rank.log_probs(
    logits, np.array([[0, 1]]), target_mask_BxT=np.array([[True, False]])
  )
  np.testing.assert_allclose(sums, [-np.log(3)], rtol=1e-6)


def test_half_precision_logits_are_summed_in_float32():
  logits = jnp.zeros((1, 64, 300), jnp.bfloat16)
  sums, _ = rank.log_probs(
    logits,
    np.zeros((1, 64), np.int32),
    target_mask_BxT=np.ones((1, 64), bool),
  )
  np.testing.assert_allclose(sums, [-64 * np.log(300)], rtol=1e-5)


def test_greedy_is_what_argmax_says_as_far_as_the_mask_goes():
  rng = np.random.default_rng(1)
  logits = rng.integers(0, 3, (64, 2, 4)).astype(np.float32)  # with equal ones
  targets = rng.integers(0, 4, (64, 2))
  mask = np.stack([np.ones(64, bool), rng.random(64) < 0.5], axis=1)
  found = rank.greedy(logits, targets, target_mask_BxT=mask)
  want = ((logits.argmax(-1) == targets) | ~mask).all(-1)
  assert found.tolist() == want.tolist()
  # The first of equal ones counts, and no later one.
  equal = (logits == np.take_along_axis(logits, targets[..., None], -1)).sum(-1)
  assert (found & (equal > 1).any(-1)).any()
  assert (
    ~found & (np.sort(logits)[..., -1] == np.sort(logits)[..., -2]).all(-1)
  ).any()


def test_nothing_is_greedy_where_a_logit_is_no_number():
  logits = np.array([[[0, 1, np.nan]]], np.float32)
  for target in range(3):
    assert not rank.greedy(
      logits, np.array([[target]]), target_mask_BxT=np.ones((1, 1), bool)
    )


def test_the_scores_of_t5x(shared):
  golden = np.load(shared / 'acceptance' / 't5x_tiny' / 'golden.npz')
  targets = golden['ti']
  sums, _ = rank.log_probs(
    golden['logits'], targets, target_mask_BxT=targets != 0
  )
  np.testing.assert_allclose(sums, golden['scores'], rtol=1e-6)
  np.testing.assert_allclose(sums, [-19.378336, -64.885193], rtol=1e-5)


@pytest.mark.parametrize(
  'normalise, expected', [(False, [1, 0, 0, 2, 0]), (True, [0, 0, 0, 2, 0])]
)
def test_choose(normalise, expected):
  chosen = rank.choose(
    jnp.array(
      [
        [-4.0, -3.0, -9.0],  # the sum favours the short one
        [-2.0, -1.0, -1.0],  # only the first is offered
        [-3.0, -3.0, -3.0],  # equal: the first
        [-9.0, -8.0, -1.0],
        [-1.0, -1.0, -1.0],  # a filler row offers nothing
      ]
    ),
    jnp.array([[4, 1, 3], [2, 1, 0], [3, 3, 3], [2, 2, 2], [0, 0, 0]]),
    choice_mask_BxC=np.array(
      [[1, 1, 1], [1, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]], bool
    ),
    normalise=normalise,
  )
  assert chosen.tolist() == expected
