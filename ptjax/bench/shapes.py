"""Models and rows to measure on: the miniature, or T5 1.1's sizes at random.

Owns what needs no download. A time depends on shapes and dtype alone, not on
what weights and ids are. Everything else is the default path, `ptjax.parts`.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ptjax import assemble, parts
from ptjax import config as config_lib
from ptjax.data.batch import Encoded
from ptjax.models.t5 import T5Config
from ptjax.weights import published

# Those that fit into a laptop's memory.
T5_1_1 = {
  name: sizes
  for name, sizes in published.T5_1_1.items()
  if name in ('small', 'base', 'large', 'xl')
}
NAMES = ('miniature', *T5_1_1)


def build(
  name: str, config: ConfigDict, sizes: T5Config | None = None
) -> parts.Parts:
  """The parts of a run on a model of that shape.

  Args:
    config: of a run on the miniature, whose tokenizer and method are kept.
    sizes: of a model of another name.
  """
  made = assemble.parts(config)
  if name == 'miniature':
    return made
  sizes = sizes or T5_1_1[config_lib.one_of('shapes', name, tuple(T5_1_1))]
  model = made.tuned_model.model.clone(config=sizes)
  kept = model.clone(dtype=made.loaded.model.dtype)

  @jax.jit
  def draw(key):
    ids = jnp.zeros((1, 1), jnp.int32)
    params = nn.unbox(model.init(key, ids, ids >= 0, ids))['params']
    return jax.tree.map(lambda x: x.astype(kept.dtype), params)

  loaded = dataclasses.replace(
    made.loaded,
    model=kept,
    params=draw(jax.random.key(0)),
    config=sizes,
    fingerprint='random',
    name=name,
  )
  tuned_model = dataclasses.replace(made.tuned_model, model=model)
  return dataclasses.replace(made, loaded=loaded, tuned_model=tuned_model)


def rows(
  count: int, *, length: int, target: int, vocab_size: int
) -> list[Encoded]:
  """Random rows of half to all of these lengths, which some do fill."""
  rng = np.random.default_rng(0)

  def ids(longest: int, full: bool) -> np.ndarray:
    size = longest if full else rng.integers(max(1, longest // 2), longest + 1)
    return rng.integers(3, vocab_size, size).astype(np.int32)

  return [
    Encoded(ids(length, i == 0), ids(target, i == 0)) for i in range(count)
  ]
