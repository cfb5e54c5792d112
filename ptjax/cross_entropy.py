"""Cross-entropy in nats: of logits, or of what a frozen head makes them of.

Owns the formula and its gradient. A head over a large vocabulary makes more
numbers than all of a small model; `of_states` never holds more than a few rows
of them, and as its weights are frozen it has the gradient of a row at hand
while its logits are: two products with the head's weights, none again. Knows no
model and no text.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any

# Rows of logits at a time: fewer make small products, more leave the caches.
ROWS = 256


def of_logits(
  logits_BxTxV: jax.Array,
  targets_BxT: jax.Array,
  *,
  mask_BxT: jax.Array,
  z_loss: float = 0.0,
) -> jax.Array:
  """Cross-entropy in nats, summed over the target tokens, EOS included.

  z_loss weighs log(Z)^2 (T5X: 1e-4), which keeps logits near zero.
  """
  log_z_BxT = jax.nn.logsumexp(logits_BxTxV, axis=-1)
  return _total(logits_BxTxV, log_z_BxT, targets_BxT, mask_BxT, z_loss)


def of_states(
  head: Callable[[Tree, jax.Array], jax.Array],
  frozen: Tree,
  x_BxTxD: jax.Array,
  targets_BxT: jax.Array,
  *,
  mask_BxT: jax.Array,
  z_loss: float = 0.0,
) -> jax.Array:
  """`of_logits` of head(frozen, x) -> logits, a few positions at a time.

  The gradient is that of x alone: what `head` reads must be frozen.
  """
  parts = [_split(a) for a in (x_BxTxD, targets_BxT, mask_BxT.astype(bool))]
  return _summed(head, z_loss, frozen, *parts)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _summed(head, z_loss, frozen, x_SxBxUxD, targets_SxBxU, mask_SxBxU):
  def one(part):
    x, targets, mask = part
    logits = head(frozen, x)
    return of_logits(logits, targets, mask_BxT=mask, z_loss=z_loss)

  return jnp.sum(jax.lax.map(one, (x_SxBxUxD, targets_SxBxU, mask_SxBxU)))


def _forward(head, z_loss, frozen, x_SxBxUxD, targets_SxBxU, mask_SxBxU):
  """The sum, and its gradient to x."""

  def one(part):
    x, targets, mask = part
    logits, pull = jax.vjp(functools.partial(head, frozen), x)
    top = jnp.max(logits, axis=-1, keepdims=True)
    # Once: of that many numbers an exponential costs more than to write it.
    powers = jnp.exp(logits - top)
    total = jnp.sum(powers, axis=-1)
    log_z = top[..., 0] + jnp.log(total)
    nats = _total(logits, log_z, targets, mask, z_loss)
    rise = jnp.where(mask, 1 + 2 * z_loss * log_z, 0.0) / total
    ids = jnp.arange(logits.shape[-1])
    hit = (ids == targets[..., None]) & mask[..., None]
    slope = rise[..., None] * powers - hit
    return nats, pull(slope)[0]

  nats_S, slope = jax.lax.map(one, (x_SxBxUxD, targets_SxBxU, mask_SxBxU))
  return jnp.sum(nats_S), slope


def _backward(head, z_loss, slope_SxBxUxD, cotangent):
  del head, z_loss
  x = slope_SxBxUxD * cotangent.astype(slope_SxBxUxD.dtype)
  return None, x, None, None


_summed.defvjp(_forward, _backward)


def _total(logits_BxTxV, log_z_BxT, targets_BxT, mask_BxT, z_loss):
  hit_BxTx1 = jnp.take_along_axis(logits_BxTxV, targets_BxT[..., None], axis=-1)
  nats_BxT = log_z_BxT - hit_BxTx1[..., 0] + z_loss * jnp.square(log_z_BxT)
  return jnp.sum(jnp.where(mask_BxT, nats_BxT, 0.0))


def _split(array_BxTx: jax.Array) -> jax.Array:
  """[S, B, U, ...]: S parts of U positions, the last one filled up.

  Not of rows, which may lie on several devices.
  """
  rows, length = array_BxTx.shape[:2]
  count = max(1, -(-length // max(1, ROWS // rows)))
  size = -(-length // count)
  widths = [(0, 0), (0, count * size - length)]
  widths += [(0, 0)] * (array_BxTx.ndim - 2)
  padded = jnp.pad(array_BxTx, widths)
  return padded.reshape(rows, count, size, *padded.shape[2:]).swapaxes(0, 1)
