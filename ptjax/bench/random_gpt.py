"""GPT-NeoX models of Pythia's sizes at random, as folders both sides read.

Owns the sizes and what is drawn. Knows neither side.
"""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp

from ptjax.models.gpt_neox import GPTNeoX, GPTNeoXConfig
from ptjax.weights import save


def sizes(
  width: int, layers: int, heads: int, *, vocab_size: int = 50_304
) -> GPTNeoXConfig:
  """A Pythia: an mlp of four widths, a quarter of each head rotated."""
  head_size = width // heads
  return GPTNeoXConfig(
    vocab_size=vocab_size,
    d_model=width,
    d_ff=4 * width,
    num_layers=layers,
    num_heads=heads,
    head_size=head_size,
    max_positions=2048,
    rotary_size=head_size // 4,
  )


# Biderman et al. 2023, table 1.
PYTHIA = {
  'pythia-70m': sizes(512, 6, 8),
  'pythia-160m': sizes(768, 12, 12),
  'pythia-410m': sizes(1024, 24, 16),
  'pythia-1.4b': sizes(2048, 24, 16),
}


def write(folder: pathlib.Path, config: GPTNeoXConfig) -> None:
  """A model of these sizes that is never done: its EOS has logit 0."""
  model = GPTNeoX(config)

  @jax.jit
  def draw(key):
    ids = jnp.zeros((1, 1), jnp.int32)
    return nn.unbox(model.init(key, ids, ids >= 0))['params']

  params = draw(jax.random.key(0))
  head = params['unembedder']
  head['kernel'] = head['kernel'].at[:, config.eos_id].set(0.0)
  save.save(folder, params, config)
