"""Which of several answers the model finds likeliest.

Owns how an answer is scored and how scores are compared, and whether it is
what greedy decoding would say. Knows no text, task or model.
"""

import jax
import jax.numpy as jnp

# Choices of a row that read the weights together; some rows have dozens.
TOGETHER = 4


def together(members: int) -> int:
  """How many choices are scored side by side, with so many members beside.

  What they take, mostly logits, is bounded by TOGETHER of one member.
  """
  return max(1, TOGETHER // members)


def log_probs(
  logits_BxTxV: jax.Array,
  targets_BxT: jax.Array,
  *,
  target_mask_BxT: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """(log-probability_B in nats, pieces_B) of the targets, EOS included.

  Both are float32. A row that is masked whole gets (0, 0).
  """
  logits_BxTxV = logits_BxTxV.astype(jnp.float32)
  hit_BxTx1 = jnp.take_along_axis(logits_BxTxV, targets_BxT[..., None], axis=-1)
  nats_BxT = hit_BxTx1[..., 0] - jax.nn.logsumexp(logits_BxTxV, axis=-1)
  # where, not a product: behind the mask there may be an infinity.
  sum_B = jnp.sum(jnp.where(target_mask_BxT, nats_BxT, 0.0), axis=-1)
  return sum_B, jnp.sum(target_mask_BxT, axis=-1, dtype=jnp.float32)


def greedy(
  logits_BxTxV: jax.Array,
  targets_BxT: jax.Array,
  *,
  target_mask_BxT: jax.Array,
) -> jax.Array:
  """Whether a row's targets are each the likeliest id, [B].

  Of equal ones the first is, as in `sample.Greedy`; of a NaN none.
  """
  ids_V = jnp.arange(logits_BxTxV.shape[-1])
  target_BxTx1 = targets_BxT[..., None]
  hit_BxTx1 = jnp.take_along_axis(logits_BxTxV, target_BxTx1, axis=-1)
  behind_BxTxV = (logits_BxTxV < hit_BxTx1) | (
    (logits_BxTxV == hit_BxTx1) & (ids_V >= target_BxTx1)
  )
  first_BxT = jnp.all(behind_BxTxV, axis=-1)
  return jnp.all(first_BxT | ~target_mask_BxT, axis=-1)


def choose(
  scores_xBxC: jax.Array,
  lengths_xBxC: jax.Array,
  *,
  choice_mask_BxC: jax.Array,
  normalise: bool,
) -> jax.Array:
  """The number of each row's best choice; of equal ones, the first.

  Args:
    scores_xBxC: log-probabilities in nats; x is any number of axes in front.
    lengths_xBxC: pieces of each choice, EOS included.
    choice_mask_BxC: False where a row has fewer choices than the others. A row
      without any gives 0.
    normalise: compare log-probability a piece, not the sum: else a short
      answer starts with an advantage.
  """
  return jnp.argmax(
    _masked(scores_xBxC, lengths_xBxC, choice_mask_BxC, normalise=normalise),
    axis=-1,
  )


def choose_together(
  scores_ExBxC: jax.Array,
  lengths_ExBxC: jax.Array,
  *,
  choice_mask_BxC: jax.Array,
  normalise: bool,
) -> jax.Array:
  """The number of each row's choice with the highest mean probability.

  Each member's probabilities sum to 1 over the choices of a row; arguments are
  those of `choose`.
  """
  masked_ExBxC = _masked(
    scores_ExBxC, lengths_ExBxC, choice_mask_BxC, normalise=normalise
  )
  # A row without choices must not turn into NaN: its first one is taken.
  some_Bx1 = jnp.any(choice_mask_BxC, axis=-1, keepdims=True)
  probs_ExBxC = jax.nn.softmax(jnp.where(some_Bx1, masked_ExBxC, 0.0), axis=-1)
  return jnp.argmax(jnp.mean(probs_ExBxC, axis=0), axis=-1)


def _masked(scores_xBxC, lengths_xBxC, choice_mask_BxC, *, normalise: bool):
  scores_xBxC = jnp.asarray(scores_xBxC)
  if normalise:
    scores_xBxC = scores_xBxC / jnp.maximum(lengths_xBxC, 1)
  return jnp.where(choice_mask_BxC, scores_xBxC, -jnp.inf)
