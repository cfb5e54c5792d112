"""Scales: of which maps, and on which side."""

import jax
import jax.numpy as jnp

from ptjax.methods import ia3
from ptjax.methods.base import Linear, Start

START = Start(
  jnp.ones((61, 8)),
  linears={
    'layers/attention/query': Linear((3,), 8, (2, 3)),
    'layers/attention/key': Linear((3,), 8, (2, 3)),
    'layers/mlp/wi': Linear((3,), 8, (16,)),
    'layers/mlp/wo': Linear((3,), 16, (8,)),
  },
)


def made(*targets):
  own = ia3.Method(targets=targets).create(jax.random.key(0), START)
  return ia3.Method(targets=targets).expand(own)['layers']


def test_keys_are_scaled_on_the_outside_and_an_mlp_within():
  found = made()
  assert set(found['attention']) == {'key'} and set(found['mlp']) == {'wo'}
  assert found['attention']['key']['scale'].shape == (3, 2, 3)
  assert found['mlp']['wo']['scale_in'].shape == (3, 16)
  assert all((leaf == 1).all() for leaf in jax.tree.leaves(found))


def test_other_maps_may_be_named():
  found = made('wi')
  assert set(found) == {'mlp'}
  assert found['mlp']['wi']['scale'].shape == (3, 16)
