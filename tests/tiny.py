"""A random model of a few thousand weights, and batches for it."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from ptjax.models.t5 import T5, T5Config

CONFIG = T5Config(
  vocab_size=61,
  d_model=24,
  d_kv=5,
  d_ff=36,
  num_layers=2,
  num_decoder_layers=3,
  num_heads=3,
)


def t5(seed: int = 0, **changes) -> tuple[T5, dict]:
  """(model, params) with weights that differ from layer to layer."""
  model = T5(CONFIG, **changes)
  ids = jnp.zeros((1, 4), jnp.int32)
  key = jax.random.key(seed)
  variables = jax.jit(model.init)(key, ids, ids >= 0, ids)
  return model, meta.unbox(variables)['params']


def batch(seed: int = 0, *, rows: int = 4, length: int = 9, target: int = 5):
  """Rows of unequal lengths, right padded, targets that end with EOS."""
  rng = np.random.default_rng(seed)
  inputs = rng.integers(3, CONFIG.vocab_size, (rows, length))
  lengths = rng.integers(2, length + 1, rows)
  targets = rng.integers(3, CONFIG.vocab_size, (rows, target))
  ends = rng.integers(1, target, rows)
  input_mask = np.arange(length) < lengths[:, None]
  targets[np.arange(rows), ends] = CONFIG.eos_id
  target_mask = np.arange(target) <= ends[:, None]
  return {
    'inputs': np.where(input_mask, inputs, 0).astype(np.int32),
    'input_mask': input_mask,
    'targets': np.where(target_mask, targets, 0).astype(np.int32),
    'target_mask': target_mask,
    'index': np.arange(rows, dtype=np.int32),
  }
