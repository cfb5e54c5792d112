"""Which of several answers the model finds likeliest.

Owns how an answer is scored and how scores are compared. Knows no text, task
or model.
"""

import jax
import jax.numpy as jnp


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


def choose(
  scores_BxC: jax.Array,
  lengths_BxC: jax.Array,
  *,
  choice_mask_BxC: jax.Array,
  normalise: bool,
) -> jax.Array:
  """The number of each row's best choice; of equal ones, the first.

  Args:
    scores_BxC: log-probabilities in nats.
    lengths_BxC: pieces of each choice, EOS included.
    choice_mask_BxC: False where a row has fewer choices than the others. A row
      without any gives 0.
    normalise: compare log-probability a piece, not the sum: else a short
      answer starts with an advantage.
  """
  scores_BxC = jnp.asarray(scores_BxC)
  if normalise:
    scores_BxC = scores_BxC / jnp.maximum(lengths_BxC, 1)
  return jnp.argmax(jnp.where(choice_mask_BxC, scores_BxC, -jnp.inf), axis=-1)
