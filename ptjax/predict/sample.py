"""One token after the other: greedy, or drawn at random.

Owns the decoding loop and what may be drawn. Knows a function that gives the
next logits and its cache; no model, text or task.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

Tree = Any
StepFn = Callable[[jax.Array, Tree], tuple[jax.Array, Tree]]


class Sampler(Protocol):
  """Logits -> the next ids."""

  def __call__(
    self, rng: jax.Array | None, logits_BxV: jax.Array
  ) -> jax.Array: ...


@dataclasses.dataclass(frozen=True)
class Greedy:
  """The likeliest id; of equal ones, the first."""

  def __call__(self, rng: jax.Array | None, logits_BxV: jax.Array) -> jax.Array:
    del rng  # nothing is drawn
    return jnp.argmax(logits_BxV, axis=-1)


@dataclasses.dataclass(frozen=True)
class Sample:
  """A draw from what is left of the distribution.

  Attributes:
    temperature: logits are divided by it, first.
    top_k: only so many of the likeliest ids (and those equal to the last) are
      kept; 0 = all.
    top_p: of these, the fewest that hold this much probability.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0

  def __post_init__(self):
    if self.temperature <= 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
      raise ValueError(f'{self}: temperature > 0, top_k >= 0, 0 < top_p <= 1')

  def __call__(self, rng: jax.Array | None, logits_BxV: jax.Array) -> jax.Array:
    if rng is None:
      raise ValueError('drawing at random needs rng')
    return jax.random.categorical(rng, self.filter(logits_BxV), axis=-1)

  def filter(self, logits_BxV: jax.Array) -> jax.Array:
    """Logits with -inf for what cannot be drawn; as transformers does it."""
    logits_BxV = logits_BxV.astype(jnp.float32) / self.temperature
    if 0 < self.top_k < logits_BxV.shape[-1]:
      least_Bx1 = jax.lax.top_k(logits_BxV, self.top_k)[0][..., -1:]
      logits_BxV = jnp.where(logits_BxV < least_Bx1, -jnp.inf, logits_BxV)
    if self.top_p < 1:
      logits_BxV = _nucleus(logits_BxV, self.top_p)
    return logits_BxV


def _nucleus(logits_BxV: jax.Array, top_p: float) -> jax.Array:
  # Of equal logits the first are kept; transformers leaves that to chance.
  order_BxV = jnp.argsort(-logits_BxV, axis=-1)
  sorted_BxV = jnp.take_along_axis(logits_BxV, order_BxV, axis=-1)
  probs_BxV = jax.nn.softmax(sorted_BxV, axis=-1)
  # Summed from the unlikely end, as there, so that rounding is the same.
  tail_BxV = jnp.flip(jnp.cumsum(jnp.flip(probs_BxV, -1), axis=-1), -1)
  drop_BxV = (tail_BxV <= 1 - top_p).at[..., 0].set(False)
  place_BxV = jnp.argsort(order_BxV, axis=-1)
  drop_BxV = jnp.take_along_axis(drop_BxV, place_BxV, axis=-1)
  return jnp.where(drop_BxV, -jnp.inf, logits_BxV)


def generate(
  step_fn: StepFn,
  cache: Tree,
  *,
  batch_size: int,
  start_id: int = 0,
  eos_id: int,
  pad_id: int,
  max_length: int,
  sampler: Sampler = Greedy(),
  rng: jax.Array | None = None,
  axis_name: str | None = None,
  first_BxV: jax.Array | None = None,
) -> jax.Array:
  """Decodes until every row has ended, or to max_length.

  Args:
    step_fn: (ids_B, cache) -> (logits_BxV of the next token, cache).
    cache: as it is before the first token.
    start_id: what the decoder is fed first; it is not returned.
    rng: for a sampler that draws; the position is folded in.
    axis_name: of a vmap around this; all of it ends together. Else its rows
      would be kept by copying their caches at every step.
    first_BxV: logits of the first token, where the cache already holds what is
      in front of it; start_id is then not fed.

  Returns:
    ids_BxT with T = max_length: EOS where a row ended, padding behind it.
  """

  def unfinished(carry):
    t, _, done_B, _, _ = carry
    done = jnp.all(done_B)
    if axis_name is not None:
      done = jax.lax.pmin(done.astype(jnp.int32), axis_name) > 0
    return (t < max_length) & ~done

  def step(carry):
    t, ids_B, done_B, out_BxT, cache = carry
    logits_BxV, cache = step_fn(ids_B, cache)
    return *choose(t, logits_BxV, done_B, out_BxT), cache

  def choose(t, logits_BxV, done_B, out_BxT):
    key = None if rng is None else jax.random.fold_in(rng, t)
    ids_B = sampler(key, logits_BxV).astype(jnp.int32)
    ids_B = jnp.where(done_B, pad_id, ids_B)
    out_BxT = out_BxT.at[:, t].set(ids_B)
    return t + 1, ids_B, done_B | (ids_B == eos_id), out_BxT

  t, done_B = jnp.int32(0), jnp.zeros(batch_size, bool)
  out_BxT = jnp.full((batch_size, max_length), pad_id, jnp.int32)
  if first_BxV is None:
    start = t, jnp.full(batch_size, start_id, jnp.int32), done_B, out_BxT
  else:
    start = choose(t, first_BxV, done_B, out_BxT)
  return jax.lax.while_loop(unfinished, step, (*start, cache))[3]
