"""A step's numbers on the host."""

import math

import jax.numpy as jnp
import pytest

from ptjax import vitals


def test_perplexity_is_of_each_member_s_mean_loss():
  values = vitals.read({'loss': jnp.array([0.0, math.log(4.0)])})
  assert values['perplexity'] == pytest.approx([1, 4])
  # The mean of the members' perplexities, not that of their mean loss (2).
  found = vitals.scalars(values)
  assert found['perplexity'] == pytest.approx(2.5)
  assert found['perplexity/1'] == pytest.approx(4)


def test_a_loss_that_is_too_large_or_no_number_is_no_error():
  values = vitals.read({'loss': jnp.array([1e6, jnp.nan])})
  assert values['perplexity'][0] == math.inf
  assert math.isnan(values['perplexity'][1])
