"""Biases: the model's own, or new ones, which is said."""

import jax
import jax.numpy as jnp
import pytest

from ptjax.methods import bitfit
from ptjax.methods.base import Linear, Start

LINEARS = {
  'layers/attention/query': Linear((3,), 8, (2, 3)),
  'layers/attention/key': Linear((3,), 8, (2, 3)),
  'layers/mlp/wo': Linear((3,), 16, (8,)),
  'head': Linear((), 8, (61,)),
}
OWN = {'layers/mlp/wo': (3, 8), 'norm': (8,)}


@pytest.fixture(autouse=True)
def forget():
  bitfit._tell.cache_clear()


def made(biases, *targets):
  method = bitfit.Method(targets=targets)
  start = Start(jnp.ones((61, 8)), linears=LINEARS, biases=biases)
  return method.expand(method.create(jax.random.key(0), start))


def shapes(found):
  return jax.tree.map(lambda x: x.shape, found)


def test_a_models_own_biases_are_changed_those_of_norms_too(caplog):
  assert shapes(made(OWN)) == {
    'layers': {'mlp': {'wo': {'delta_bias': (3, 8)}}},
    'norm': {'delta_bias': (8,)},
  }
  assert not caplog.text


def test_a_model_without_gets_new_ones_but_none_of_keys(caplog):
  assert shapes(made({})) == {
    'layers': {
      'attention': {'query': {'delta_bias': (3, 2, 3)}},
      'mlp': {'wo': {'delta_bias': (3, 8)}},
    }
  }
  made({})
  said = [record.message for record in caplog.records]
  assert len(said) == 1 and '2 of the 2 biases that train are new' in said[0]


def test_named_maps_get_one_whether_they_have_it_or_not(caplog):
  found = made(OWN, 'key', 'wo')
  assert set(found) == {'layers'}
  assert set(found['layers']) == {'attention', 'mlp'}
  assert '1 of the 2 biases' in caplog.text
  assert not any(leaf.any() for leaf in jax.tree.leaves(found))
