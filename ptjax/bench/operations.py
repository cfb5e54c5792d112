"""Operations of matrix products, by shapes, and how many a second there are.

An operation is one multiplication or one addition. Counted is what a side
computes, masked scores too. Knows no framework's way of computing it.
"""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ptjax.models.causal_layers import CausalConfig

_SIDE = 1024  # rows and columns of the product that is timed


@dataclasses.dataclass(frozen=True)
class Work:
  """What runs through a model.

  Attributes:
    tokens: positions in all of the layers.
    scores: pairs of a query and a key, in each head.
    said: positions whose logits are computed.
  """

  tokens: int
  scores: int
  said: int

  def forward(self, config: CausalConfig) -> int:
    """Operations of the forward pass."""
    return self._products(config) + self._attention(config)

  def train(self, config: CausalConfig) -> int:
    """And of the backward pass for activations alone: weights are frozen.

    A product with a weight is done once more, one of two activations twice.
    """
    return 2 * self._products(config) + 3 * self._attention(config)

  def _products(self, config: CausalConfig) -> int:
    D, F = config.d_model, config.d_ff
    layer = 2 * D * (4 * D + 2 * F)
    return (
      self.tokens * config.num_layers * layer
      + self.said * 2 * D * config.vocab_size
    )

  def _attention(self, config: CausalConfig) -> int:
    return self.scores * config.num_layers * 4 * config.d_model


def once(*, batch: int, length: int, prompt: int, said: int) -> Work:
  """A prompt that is run once, in front of rows of so many pieces."""
  scores = prompt * prompt + batch * length * (prompt + length)
  return Work(prompt + batch * length, scores, batch * said)


def in_every_row(*, batch: int, length: int, prompt: int, said: int) -> Work:
  """A prompt in front of each row."""
  row = prompt + length
  return Work(batch * row, batch * row * row, batch * said)


def decoding(*, batch: int, keys: int, steps: int) -> Work:
  """So many steps of one token a row, each reading so many keys."""
  tokens = batch * steps
  return Work(tokens, tokens * keys, tokens)


def rate(
  dtype: str,
  *,
  least: float = 0.2,
  clock: Callable[[], float] = time.perf_counter,
) -> float:
  """Operations a second of one large product, summed in float32."""

  @jax.jit
  def product(left, right):
    return jnp.matmul(left, right, preferred_element_type=jnp.float32)

  square = jnp.ones((_SIDE, _SIDE), dtype)
  jax.block_until_ready(product(square, square))
  times, began = 0, clock()
  while True:
    jax.block_until_ready(product(square, square))
    times += 1
    seconds = clock() - began
    if seconds >= least:
      return 2 * _SIDE**3 * times / max(seconds, 1e-9)
