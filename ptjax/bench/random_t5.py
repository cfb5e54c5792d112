"""T5 1.1 of published sizes at random, as folders both sides read.

Owns what is drawn. Knows neither side.
"""

import dataclasses
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp

from ptjax.models.t5 import T5, T5Config
from ptjax.weights import published, save

SIZES = {
  name: dataclasses.replace(published.T5_1_1[name], dropout_rate=0.0)
  for name in ('small', 'base', 'large', 'xl')
}


def write(folder: pathlib.Path, config: T5Config) -> None:
  """A model of these sizes that is never done: its EOS has logit 0."""
  model = T5(config)

  @jax.jit
  def draw(key):
    ids = jnp.zeros((1, 1), jnp.int32)
    return nn.unbox(model.init(key, ids, ids >= 0, ids))['params']

  params = draw(jax.random.key(0))
  head = params['head']
  head['kernel'] = head['kernel'].at[:, config.eos_id].set(0.0)
  save.save(folder, params, config)
