"""Beam search: several continuations of each row at once, the best is kept.

Owns the loop, the scores and when it ends. Knows a function that gives the
next logits, its cache and that cache's batch axes; no model, text or task.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ptjax.predict.sample import StepFn

Cache = dict[str, jax.Array]

# Added to what must not be chosen; float32 still tells it from a real score.
OUT = -1e9


@dataclasses.dataclass(frozen=True)
class Beams:
  """How to search; as in transformers, whose defaults these are.

  Attributes:
    number: of beams, W.
    length_penalty: a finished answer's log-probability is divided by its
      length to this power: above 0, longer answers are favoured.
    early_stopping: stop a row at W finished answers. Otherwise when its best
      beam, divided as above, is no better than the worst of W finished.
  """

  number: int
  length_penalty: float = 1.0
  early_stopping: bool = False

  def __post_init__(self):
    if self.number < 1:
      raise ValueError(f'{self}: number >= 1')


class _State(NamedTuple):
  """The search after t tokens; the best beam and answer come first."""

  t: jax.Array
  ids_BxWxT: jax.Array  # of the beams that go on
  score_BxW: jax.Array  # their summed log-probabilities
  done_ids_BxWxT: jax.Array  # of finished answers
  done_score_BxW: jax.Array  # theirs, divided by length
  done_BxW: jax.Array  # whether there is one
  open_B: jax.Array  # whether a beam may still beat the finished
  stuck: jax.Array  # whether every candidate has ended


def generate(
  step_fn: StepFn,
  cache: Cache,
  *,
  beams: Beams,
  batch_axes: Mapping[str, int | None],
  batch_size: int,
  eos_id: int,
  pad_id: int,
  max_length: int,
  start_id: int = 0,
  first_BxV: jax.Array | None = None,
) -> jax.Array:
  """The best answer of each row.

  Args:
    step_fn: (ids, cache) -> (logits of the next token, cache), for B * W rows.
    cache: as it is before the first token, for B rows.
    batch_axes: of each leaf of the cache; None where it has no batch.
    start_id: what the decoder is fed first; it is not returned.
    first_BxV: logits of the first token, where the cache already holds what is
      in front of it; start_id is then not fed.

  Returns:
    ids_BxT with T = max_length: EOS where a row ended, padding behind it.
  """
  B, W = batch_size, beams.number
  cache = _pick(cache, jnp.repeat(jnp.arange(B), W), batch_axes)

  def advance(state, logits, cache):
    state, beam_BxW = _advance(
      state, logits.reshape(B, W, -1), beams, eos_id=eos_id
    )
    chosen = (beam_BxW + W * jnp.arange(B)[:, None]).ravel()
    return state, _pick(cache, chosen, batch_axes)

  def step(carry):
    state, cache = carry
    last = jnp.maximum(state.t - 1, 0)
    fed = jax.lax.dynamic_index_in_dim(state.ids_BxWxT, last, 2, False)
    fed = jnp.where(state.t == 0, start_id, fed).ravel()
    return advance(state, *step_fn(fed, cache))

  def unfinished(carry):
    state, _ = carry
    early = jnp.all(state.done_BxW) & beams.early_stopping
    return jnp.any(state.open_B) & ~early & ~state.stuck

  state = _start(B, W, max_length, pad_id)
  carry = state, cache
  if first_BxV is not None:
    carry = advance(state, jnp.repeat(first_BxV, W, axis=0), cache)
  state, _ = jax.lax.while_loop(unfinished, step, carry)
  return state.done_ids_BxWxT[:, 0]


def _start(B: int, W: int, length: int, pad_id: int) -> _State:
  ids_BxWxT = jnp.full((B, W, length), pad_id, jnp.int32)
  out_BxW = jnp.full((B, W), OUT, jnp.float32)
  return _State(
    t=jnp.int32(0),
    ids_BxWxT=ids_BxWxT,
    # All beams are alike at first: only one of them is to be continued.
    score_BxW=out_BxW.at[:, 0].set(0.0),
    done_ids_BxWxT=ids_BxWxT,
    done_score_BxW=out_BxW,
    done_BxW=jnp.zeros((B, W), bool),
    open_B=jnp.ones(B, bool),
    stuck=jnp.bool_(False),
  )


def _advance(
  state: _State, logits_BxWxV: jax.Array, beams: Beams, *, eos_id: int
) -> tuple[_State, jax.Array]:
  """One token more: the state, and the beam that each beam continues."""
  B, W, V = logits_BxWxV.shape
  log_probs = jax.nn.log_softmax(logits_BxWxV.astype(jnp.float32), axis=-1)
  total = (log_probs + state.score_BxW[..., None]).reshape(B, W * V)
  # Twice as many: if the best W all end, W others go on.
  score_BxK, index_BxK = jax.lax.top_k(total, 2 * W)
  beam_BxK, token_BxK = index_BxK // V, (index_BxK % V).astype(jnp.int32)
  ids_BxKxT = _take(state.ids_BxWxT, beam_BxK)
  ids_BxKxT = jax.lax.dynamic_update_slice_in_dim(
    ids_BxKxT, token_BxK[..., None], state.t, axis=2
  )
  t = state.t + 1
  ended_BxK = (token_BxK == eos_id) | (t == ids_BxKxT.shape[-1])
  on_BxW, pick_BxW = jax.lax.top_k(score_BxK + OUT * ended_BxK, W)
  state = state._replace(
    t=t,
    ids_BxWxT=_take(ids_BxKxT, pick_BxW),
    score_BxW=on_BxW,
    stuck=jnp.all(ended_BxK),
  )
  state = _finish(state, ids_BxKxT, score_BxK, ended_BxK, beams)
  return state, _take(beam_BxK, pick_BxW)


def _finish(
  state: _State,
  ids_BxKxT: jax.Array,
  score_BxK: jax.Array,
  ended_BxK: jax.Array,
  beams: Beams,
) -> _State:
  """The finished answers, with those that ended now among the best W."""
  W = beams.number
  divisor = state.t.astype(jnp.float32) ** beams.length_penalty
  new_BxK = ended_BxK & (jnp.arange(ended_BxK.shape[1]) < W)
  closed_B = ~state.open_B
  if beams.early_stopping:
    closed_B = closed_B | jnp.all(state.done_BxW, axis=1)
  score_BxK = score_BxK / divisor + OUT * closed_B[:, None] + OUT * ~new_BxK
  scores = _join(state.done_score_BxW, score_BxK)
  done_score_BxW, best_BxW = jax.lax.top_k(scores, W)
  done_BxW = _take(_join(state.done_BxW, new_BxK), best_BxW)
  worst_B = jnp.where(
    jnp.all(done_BxW, axis=1), jnp.min(done_score_BxW, axis=1), OUT
  )
  hope_B = state.score_BxW[:, 0] / divisor > worst_B
  return state._replace(
    done_ids_BxWxT=_take(_join(state.done_ids_BxWxT, ids_BxKxT), best_BxW),
    done_score_BxW=done_score_BxW,
    done_BxW=done_BxW,
    open_B=state.open_B & hope_B,
  )


def _join(old: jax.Array, new: jax.Array) -> jax.Array:
  return jnp.concatenate([old, new], axis=1)


def _take(array: jax.Array, index_BxW: jax.Array) -> jax.Array:
  """Entries of axis 1, chosen for each row."""
  index = index_BxW.reshape(*index_BxW.shape, *[1] * (array.ndim - 2))
  return jnp.take_along_axis(array, index, axis=1)


def _pick(
  cache: Cache, rows: jax.Array, batch_axes: Mapping[str, int | None]
) -> Cache:
  """The cache of these rows."""
  return {
    name: leaf
    if batch_axes[name] is None
    else jnp.take(leaf, rows, axis=batch_axes[name])
    for name, leaf in cache.items()
  }
