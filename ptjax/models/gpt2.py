"""GPT-2: learned positions, one residual stream after the other.

Owns the family's layer and how positions enter. What it shares with the other
decoder-only models is in `causal`.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from ptjax.models import causal, causal_layers, layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config(causal_layers.CausalConfig):
  """What tells one GPT-2 from another."""

  activation: str = 'gelu_new'
  tied: bool = True


class Layer(causal_layers.CausalLayer):
  """Sequential, with biases; queries, keys and values in one kernel."""

  def setup(self) -> None:
    super().setup()
    config = self.config
    self.pre_attention_norm = layers.LayerNorm(config.norm_epsilon)
    self.attention = causal_layers.Attention(
      config, config.num_heads, fused='part'
    )
    self.pre_mlp_norm = layers.LayerNorm(config.norm_epsilon)
    self.mlp = causal_layers.Mlp(config)


class PositionEmbedder(nn.Module):
  """A row for each position; NaN for one that is not there."""

  config: GPT2Config

  @nn.compact
  def __call__(self, positions_BxT: jax.Array) -> jax.Array:
    shape = (self.config.max_positions, self.config.d_model)
    axes, stddev = ('positions', 'embed'), self.config.stddev
    table = layers.weight(self, 'embedding', shape, axes=axes, stddev=stddev)
    return jnp.take(table, positions_BxT, axis=0, mode='fill')


class GPT2(causal.Causal):
  """The whole model."""

  config: GPT2Config

  def setup(self) -> None:
    super().setup()
    self.position_embedder = PositionEmbedder(self.config)

  def make_layer(self) -> type[causal_layers.CausalLayer]:
    return Layer

  def embed(self, ids_BxT: jax.Array, positions_BxT: jax.Array) -> jax.Array:
    x_BxTxD = self.token_embedder(ids_BxT)
    return x_BxTxD + self.position_embedder(positions_BxT).astype(self.dtype)
