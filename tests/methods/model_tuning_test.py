"""All of the model trains; nothing is added to it."""

import jax
import jax.numpy as jnp

from ptjax import tree
from ptjax.methods import model_tuning, none
from ptjax.methods.base import Start

START = Start(jnp.ones((61, 24)))
NAMES = ['model/encoder/layers/mlp/wi_0', 'model/token_embedder/embedding']


def test_every_weight_of_the_model_is_chosen():
  chosen = tree.select(NAMES, model_tuning.Method.tune)
  assert all(chosen.values()) and len(chosen) == 2


def test_none_chooses_nothing():
  assert not any(tree.select(NAMES, none.Method.tune).values())


def test_neither_adds_a_parameter_or_a_port():
  for module in (model_tuning, none):
    method = module.Method()
    assert method.create(jax.random.key(0), START) == {}
    assert method.expand({}) == {} and method.front == 0
