"""What the training of one member takes, estimated from shapes.

Owns the arithmetic that refuses a population before it is compiled. An
estimate: what a compiler reuses or copies it does not know.
"""

import os
from typing import Any

import jax

from ptjax import cross_entropy
from ptjax.config import UserError
from ptjax.models.causal_layers import CausalConfig

GIB = 2**30


def member_bytes(
  config: Any,
  *,
  batch: int,
  prompt: int,
  length: int,
  target: int,
  itemsize: int,
  remat: bool,
  full_text: bool = False,
  tensor: int = 1,
) -> int:
  """Bytes that the backward pass of one member keeps on a device.

  Args:
    config: the network's sizes, of T5 or of a decoder-only model.
    batch: rows of a micro-batch.
    prompt: virtual tokens.
    length: pieces of an input.
    target: pieces of a target.
    itemsize: of the compute dtype; scores and logits are float32.
    remat: whether a layer keeps its input only.
    full_text: whether inputs are said too, so that they have logits.
    tensor: parts that each layer is cut in, as `mesh.tensor`.
  """
  shapes = {'batch': batch, 'prompt': prompt, 'length': length}
  sizes = _causal if isinstance(config, CausalConfig) else _encoder_decoder
  layers = sizes(
    config, **shapes, target=target, itemsize=itemsize, tensor=tensor
  )
  kept = 0
  for count, whole, positions in layers:
    entry = batch * positions * config.d_model * itemsize
    kept += count * entry + whole if remat else count * (entry + whole)
  # A frozen head's logits are held a few rows at a time: the rows, their
  # probabilities, and what of these goes back.
  said = batch * (target + length if full_text else target)
  at_once = min(said, max(batch, cross_entropy.ROWS))
  logits = 3 * at_once * config.vocab_size * 4 // tensor
  return kept + logits


# Layers of a kind, bytes that one keeps, and its positions.
Layers = tuple[int, int, int]


def _causal(
  config: CausalConfig, *, batch, prompt, length, target, itemsize, tensor
) -> list[Layers]:
  inner = config.num_heads * config.head_size // tensor
  own = length + target
  scores = batch * config.num_heads * own * (own + prompt) // tensor
  # A loop over layers keeps their products; a gated mlp has two of its width.
  row = 3 * config.d_model + 4 * inner + 2 * config.d_ff // tensor
  whole = batch * own * row * itemsize + scores * 4
  # The prompt is run once, whatever the number of rows.
  return [(config.num_layers, whole + prompt * row * itemsize, own)]


def _encoder_decoder(
  config: Any, *, batch, prompt, length, target, itemsize, tensor
) -> list[Layers]:
  length += prompt
  inner = config.num_heads * config.d_kv // tensor
  mlp = (3 if config.gated else 2) * config.d_ff // tensor
  wide = 4 * config.d_model

  def attention(queries: int, keys: int) -> int:
    scores = batch * config.num_heads * queries * keys // tensor
    projected = 2 * queries + 2 * keys
    return batch * projected * inner * itemsize + scores * (8 + itemsize)

  def rows(positions: int) -> int:
    return batch * positions * (wide + mlp) * itemsize

  encoder = rows(length) + attention(length, length)
  decoder = rows(target) + attention(target, target)
  decoder += attention(target, length)
  return [
    (config.num_layers, encoder, length),
    (config.num_decoder_layers, decoder, target),
  ]


def check(
  members: int, *, each: int, weights: int, limit_gib: float, task: str
) -> None:
  """Refuses a population that does not fit, before anything is compiled.

  Args:
    each: bytes of a member's training, see `member_bytes`.
    weights: bytes of the frozen weights, held once and loaded already.
    limit_gib: what there is; 0 asks the device.

  Raises:
    UserError: with the estimate and how many would fit.
  """
  limit = int(limit_gib * GIB) or _device_bytes(weights)
  if limit is None or weights + members * each <= limit:
    return
  fit = max(0, (limit - weights) // each)
  raise UserError(
    f'{task}: {members} members would take about '
    f'{(weights + members * each) / GIB:.2f} GiB ({weights / GIB:.2f} of '
    f'weights and {each / GIB:.2f} a member), but there are '
    f'{limit / GIB:.2f}; about {fit} fit: make the population or '
    'train.batch_size smaller, or set train.accumulate, remat=true or, if you '
    'know better, population.memory'
  )


def _device_bytes(weights: int) -> int | None:
  """What the device has for a run; on a CPU, what is free and the weights."""
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'bytes_limit' in stats:
    return stats['bytes_limit']
  try:
    free = os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  except (ValueError, OSError):
    return None
  return free + weights
