"""Llama-shaped models: RMSNorm, gated mlp, keys shared by groups of heads.

Owns the family's layer, norm and rotation. What it shares with the other
decoder-only models is in `causal`.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import numpy as np

from ptjax.models import causal, causal_layers, layers


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """Llama 3.1's: slow rotations are slowed further, for longer contexts."""

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_max_positions: int

  def __call__(self, frequency_R: np.ndarray) -> np.ndarray:
    turns = self.original_max_positions * frequency_R / (2 * math.pi)
    width = self.high_freq_factor - self.low_freq_factor
    kept = np.clip((turns - self.low_freq_factor) / width, 0, 1)
    return frequency_R * (kept + (1 - kept) / self.factor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlamaConfig(causal_layers.CausalConfig):
  """What tells one Llama from another."""

  norm_epsilon: float = 1e-6
  activation: str = 'silu'
  num_kv_heads: int
  rotary_base: float = 10000.0
  rope_scaling: RopeScaling | None = None
  attention_bias: bool = False
  mlp_bias: bool = False


class Layer(causal_layers.CausalLayer):
  """Sequential, most often without biases."""

  def setup(self) -> None:
    super().setup()
    config = self.config
    self.pre_attention_norm = layers.RMSNorm(config.norm_epsilon)
    self.attention = causal_layers.Attention(
      config,
      config.num_kv_heads,
      bias=config.attention_bias,
      out_bias=config.attention_bias,
    )
    self.pre_mlp_norm = layers.RMSNorm(config.norm_epsilon)
    self.mlp = causal_layers.Mlp(config, gated=True, bias=config.mlp_bias)


class Llama(causal.Causal):
  """The whole model."""

  config: LlamaConfig

  def make_layer(self) -> type[causal_layers.CausalLayer]:
    return Layer

  def make_norm(self) -> nn.Module:
    return layers.RMSNorm(self.config.norm_epsilon)

  def rotation(self, positions_BxT: jax.Array) -> causal_layers.Rotation:
    config = self.config
    frequency = causal_layers.frequencies(config.head_size, config.rotary_base)
    if config.rope_scaling is not None:
      frequency = config.rope_scaling(frequency)
    return causal_layers.rotation(positions_BxT, frequency, self.dtype)
