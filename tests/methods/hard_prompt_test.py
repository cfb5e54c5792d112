"""A method of words alone: the network is as it was, and nothing trains."""

import jax
import jax.numpy as jnp
import pytest
import tiny

from ptjax import config as config_lib
from ptjax import tree
from ptjax.config import UserError
from ptjax.methods import base
from ptjax.tuned import base as tuned_base


def settings(**changes):
  c = config_lib.default()
  c.method.update({'name': 'hard_prompt', **changes})
  return c.method


def test_nothing_trains_and_nothing_stands_in_front_of_the_ids():
  model, params = tiny.t5()
  method = base.make(settings(demonstrations=2, instruction='Go.'))
  tuned_model = tuned_base.make(model, method)
  tuned, frozen = tuned_model.init(jax.random.key(0), params)
  assert not jax.tree.leaves(tuned)
  assert tree.count(frozen) == tree.count(params)
  batch = tiny.batch()
  shifted = jnp.pad(batch['targets'], [(0, 0), (1, 0)])[:, :-1]
  bare = model.apply(
    {'params': params}, batch['inputs'], batch['input_mask'], shifted
  )
  found = tuned_model.logits(tuned, frozen, batch)
  assert jnp.array_equal(found, bare)


def test_words_that_are_none_are_refused():
  with pytest.raises(UserError, match='demonstrations=-2 must be at least 0'):
    base.make(settings(demonstrations=-2))
  with pytest.raises(UserError, match='instruction=.* half of a surrogate'):
    base.make(settings(instruction='\ud83d'))
