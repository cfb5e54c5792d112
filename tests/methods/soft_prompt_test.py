"""Rows in front: how many, from what, and the port that carries them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.methods import initializers, soft_prompt
from ptjax.methods.base import Start

TABLE = jnp.asarray(
  np.random.default_rng(0).normal(size=(61, 24)), jnp.bfloat16
)
KEY = jax.random.key(0)


def method(**changes):
  fields = {'length': 5, 'init': 'uniform', 'low': -0.5, 'high': 0.5}
  fields |= {'population': 60, 'template': ''}
  return soft_prompt.Method(**{**fields, **changes})


def rows(made, **start):
  return made.create(KEY, Start(TABLE, **start))['prompt']['encoder']


@pytest.mark.parametrize('init', initializers.STARTS)
def test_every_start_gives_float32_rows_of_the_models_width(init):
  start = {
    'label_ids': [[3, 4], [5]],
    'text_ids': [7, 8],
    'prompt_PxD': np.ones((5, 24), np.float16),
  }
  found = rows(method(init=init), **start)
  assert found.shape == (5, 24) and found.dtype == jnp.float32


def test_labels_and_text_stand_in_the_first_rows():
  table = np.asarray(TABLE, np.float32)
  found = rows(method(init='labels'), label_ids=[[3, 4], [5]])
  np.testing.assert_allclose(found[0], table[3:5].mean(0), atol=1e-6)
  np.testing.assert_array_equal(found[1], table[5])
  found = rows(method(init='text'), text_ids=[7, 8])
  np.testing.assert_array_equal(found[:2], table[7:9])


def test_the_port_carries_the_rows_as_they_are():
  made = method()
  own = made.create(KEY, Start(TABLE))
  port = made.expand(own)['token_embedder']['prompt']
  assert port is own['prompt']['encoder'] and made.front == 5


@pytest.mark.parametrize(
  'init,start,sentence',
  [
    ('text', {}, 'cannot start from an empty text'),
    ('labels', {'label_ids': [[99]]}, "is not this model's"),
    (
      'file',
      {'prompt_PxD': np.ones((4, 24))},
      r'\(4, 24\), but this run needs',
    ),
    ('file', {'prompt_PxD': np.ones((5, 8))}, r'\(5, 8\), but this run needs'),
  ],
)
def test_a_start_that_does_not_fit_is_told(init, start, sentence):
  with pytest.raises(UserError, match=sentence):
    rows(method(init=init), **start)


@pytest.mark.parametrize('changes', [{'length': 0}, {'init': 'labls'}])
def test_a_value_that_cannot_be_is_told_at_once(changes):
  with pytest.raises(UserError):
    method(**changes)


def test_the_key_matters():
  other = method().create(jax.random.key(1), Start(TABLE))
  assert np.abs(other['prompt']['encoder'] - rows(method())).max() > 0.1
