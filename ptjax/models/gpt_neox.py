"""GPT-NeoX and Pythia: partly rotated heads, parallel or sequential residual.

Owns the family's layer and its rotation. What it shares with the other
decoder-only models is in `causal`.
"""

import dataclasses

import jax

from ptjax.models import causal, causal_layers, layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTNeoXConfig(causal_layers.CausalConfig):
  """What tells one GPT-NeoX from another."""

  parallel_residual: bool = True
  rotary_size: int  # features of each head that are rotated
  rotary_base: float = 10000.0
  attention_bias: bool = True


class Layer(causal_layers.CausalLayer):
  """Queries, keys and values of each head beside each other in one kernel."""

  def setup(self) -> None:
    super().setup()
    config = self.config
    self.pre_attention_norm = layers.LayerNorm(config.norm_epsilon)
    self.attention = causal_layers.Attention(
      config,
      config.num_heads,
      fused='head',
      bias=config.attention_bias,
      out_bias=config.attention_bias,
    )
    self.pre_mlp_norm = layers.LayerNorm(config.norm_epsilon)
    self.mlp = causal_layers.Mlp(config)


class GPTNeoX(causal.Causal):
  """The whole model."""

  config: GPTNeoXConfig

  def make_layer(self) -> type[causal_layers.CausalLayer]:
    return Layer

  def rotation(self, positions_BxT: jax.Array) -> causal_layers.Rotation:
    frequency = causal_layers.frequencies(
      self.config.rotary_size, self.config.rotary_base
    )
    return causal_layers.rotation(positions_BxT, frequency, self.dtype)
