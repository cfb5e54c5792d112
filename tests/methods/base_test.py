"""Every method offers the same names, and takes its fields from config."""

import dataclasses
import importlib
import pathlib

import jax
import jax.numpy as jnp
import pytest

from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.methods import base

KEYS = jnp.ones((2, 3, 5, 100)), jnp.ones((2, 3, 100, 5))
START = base.Start(
  jnp.ones((61, 24)),
  attentions={'layers/attention': base.Attention(2, 3, 5)},
  key_values=lambda rows: {'layers/attention': KEYS},
)


def settings(name: str):
  c = config_lib.default()
  c.method.name = name
  return c.method


@pytest.mark.parametrize('name', base.NAMES)
def test_a_method_is_a_value_with_fields_of_config(name):
  method = base.make(settings(name))
  assert method == base.make(settings(name))
  assert hash(method) == hash(base.make(settings(name)))
  fields = {field.name for field in dataclasses.fields(method)}
  assert fields <= set(settings(name))
  own = method.create(jax.random.key(0), START)
  ports = method.expand(own)
  assert isinstance(method.front, int) and method.front >= 0
  # What a file holds of it is what it fills ports with.
  made = {id(leaf) for leaf in jax.tree.leaves(method.kept(own))}
  # Each call of these makes them anew.
  if name not in ('p_tuning', 'multitask_prompt'):
    assert made == {id(leaf) for leaf in jax.tree.leaves(ports)}


def test_every_file_of_a_method_is_named():
  folder = pathlib.Path(base.__file__).parent
  modules = {
    file.stem: importlib.import_module(f'ptjax.methods.{file.stem}')
    for file in folder.glob('[a-z]*.py')
  }
  offer = {name for name, m in modules.items() if hasattr(m, 'Method')}
  assert offer - {'base'} == set(base.NAMES)


def test_a_wrong_name_is_told_the_nearest():
  c = settings('soft_prompt')
  c.name = 'soft_promt'
  with pytest.raises(UserError, match="did you mean 'soft_prompt'"):
    base.make(c)
