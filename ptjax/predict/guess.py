"""Greedy text that is one of the answers offered, without a decoding loop.

Owns when that is so: each piece of an offered answer is the likeliest behind
those before it, and its end too. All its pieces are looked at in one pass, as
a draft is in speculative decoding (Leviathan et al. 2023, section 2); up to
rounding, what is said is what the loop would say. Knows no text, task or model.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ptjax.predict import rank

# Choices of a row: so many are looked at in one pass.
MOST = rank.TOGETHER


def said(
  greedy_BxC: jax.Array,
  batch: dict[str, jax.Array],
  *,
  eos_id: int,
  pad_id: int,
  max_length: int,
) -> tuple[jax.Array, jax.Array]:
  """(ids_BxT with T = max_length, found_B): what is offered and would be said.

  Of a row that only fills up its batch anything is.

  Args:
    greedy_BxC: see `rank.greedy`.
    batch: its `choices`, `choice_lengths` and `index`; see `data.batch.make`.
  """
  choices_BxCxT, lengths_BxC = batch['choices'], batch['choice_lengths']
  # One that has no end of its own would be followed by more.
  place_T = jnp.arange(choices_BxCxT.shape[2])
  ends_BxCxT = (choices_BxCxT == eos_id) & (
    place_T == lengths_BxC[..., None] - 1
  )
  fits_BxC = ends_BxCxT.any(axis=2) & (lengths_BxC <= max_length)
  is_BxC = greedy_BxC & fits_BxC
  # A sum over them, no index: for that, devices would send rows to each other.
  one_BxC = is_BxC & (jnp.cumsum(is_BxC, axis=1) == 1)
  real_BxCxT = one_BxC[..., None] & (place_T < lengths_BxC[..., None])
  ids_BxT = jnp.where(real_BxCxT, choices_BxCxT - pad_id, 0).sum(axis=1)
  ids_BxT = (ids_BxT + pad_id).astype(jnp.int32)
  room = max(0, max_length - len(place_T))
  ids_BxT = jnp.pad(ids_BxT, ((0, 0), (0, room)), constant_values=pad_id)
  return ids_BxT[:, :max_length], is_BxC.any(axis=1) | (batch['index'] < 0)


def or_decode(
  guessed: tuple[jax.Array, jax.Array],
  decode: Callable[[], jax.Array],
  *,
  axis_name: str | None = None,
) -> jax.Array:
  """What is said in a batch, [B, T]; what `decode` gives if a row is not found.

  Then of all rows: its loop takes as long for one.

  Args:
    guessed: see `said`.
    axis_name: of a vmap around this; all of it is decoded, or nothing.
  """
  ids_BxT, found_B = guessed
  found = jnp.all(found_B)
  if axis_name is not None:
    found = jax.lax.pmin(found.astype(jnp.int32), axis_name) > 0
  return jax.lax.cond(found, lambda: ids_BxT, decode)
