"""What the training of one member takes, estimated from shapes.

Owns the arithmetic that says what layers keep, and that refuses a population
before it is compiled. An estimate: what a compiler reuses or copies it does not
know.
"""

import os
from collections.abc import Callable
from typing import Any

import jax

from ptjax import cross_entropy
from ptjax.config import REMAT, UserError
from ptjax.models.causal_layers import CausalConfig

GIB = 2**30

# Of a CPU's memory, which other programs use too: as much as jax takes of a
# GPU's where nobody says otherwise.
_OF_A_HOST = 0.75
# The estimate has been down to 0.94 of what was compiled (BUILD.md).
MARGIN = 1.07


def member_bytes(
  config: Any,
  *,
  batch: int,
  prompt: int,
  length: int,
  target: int,
  itemsize: int,
  remat: str,
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
    remat: what the layers keep, one of `config.REMAT`.
    full_text: whether inputs are said too, so that they have logits.
    tensor: parts that each layer is cut in, as `mesh.tensor`.
  """
  shapes = {'batch': batch, 'prompt': prompt, 'length': length}
  sizes = _causal if isinstance(config, CausalConfig) else _encoder_decoder
  layers = sizes(
    config, **shapes, target=target, itemsize=itemsize, tensor=tensor
  )
  kept = 0
  for count, linear, scores, positions in layers:
    entry = batch * positions * config.d_model * itemsize
    each, at_work = _kept(remat, linear, scores, itemsize)
    kept += count * (entry + each) + at_work
  # A frozen head's logits are held a few rows at a time: the rows, their
  # probabilities, and what of these goes back.
  said = batch * (target + length if full_text else target)
  at_once = min(said, max(batch, cross_entropy.ROWS))
  logits = 3 * at_once * config.vocab_size * 4 // tensor
  return kept + logits


# Layers of a kind, bytes of the results of one's linear maps, its scores of
# attention, and its positions.
Layers = tuple[int, int, int, int]


def _kept(
  remat: str, linear: int, scores: int, itemsize: int
) -> tuple[int, int]:
  """(bytes that a layer keeps, what one holds while it is computed again)."""
  whole = linear + scores * (8 + itemsize)
  kept = {
    'none': whole,
    'products': linear + scores * itemsize,
    'linear': linear,
    'full': 0,
  }[remat]
  # While it is at work, its scores and their powers too, in float32.
  return kept, whole - kept


def _causal(
  config: CausalConfig, *, batch, prompt, length, target, itemsize, tensor
) -> list[Layers]:
  inner = config.num_heads * config.head_size // tensor
  own = length + target
  scores = batch * config.num_heads * own * (own + prompt) // tensor
  # A gated mlp has two of its width.
  row = 3 * config.d_model + 4 * inner + 2 * config.d_ff // tensor
  # The prompt is run once, whatever the number of rows.
  linear = (batch * own + prompt) * row * itemsize
  return [(config.num_layers, linear, scores, own)]


def _encoder_decoder(
  config: Any, *, batch, prompt, length, target, itemsize, tensor
) -> list[Layers]:
  length += prompt
  inner = config.num_heads * config.d_kv // tensor
  mlp = (3 if config.gated else 2) * config.d_ff // tensor
  wide = 4 * config.d_model

  def linear(positions: int, projected: int) -> int:
    row = positions * (wide + mlp) + projected * inner
    return batch * row * itemsize

  def scores(pairs: int) -> int:
    return batch * config.num_heads * pairs // tensor

  pairs = target * target + target * length
  # Queries and what attention gives; keys and values, of the input too.
  decoder = linear(target, 6 * target + 2 * length)
  encoder = linear(length, 4 * length)
  return [
    (config.num_layers, encoder, scores(length * length), length),
    (config.num_decoder_layers, decoder, scores(pairs), target),
  ]


def policy(room: int | None, needs: Callable[[str], int]) -> str:
  """What layers keep: of `config.REMAT` the most that there is room for.

  Not `none`, which is slower than `products` where both were measured. Where
  nothing has room, `full`.

  Args:
    room: bytes; None = nobody knows.
    needs: a policy -> the bytes that all needs.
  """
  found = REMAT[REMAT.index('products') :]
  return next((p for p in found if fits(needs(p), room)), found[-1])


def fits(needed: int, room: int | None) -> bool:
  """Whether estimated bytes are there; True where nobody knows."""
  return room is None or MARGIN * needed <= room


def limit(gib: float) -> int | None:
  """Bytes of so many GiB; of 0, which is said by nobody, None."""
  return int(gib * GIB) or None


def room(limit_gib: float) -> int | None:
  """Bytes of a device for a run: so many GiB, or with 0 what it has.

  Whatever is free just now: a run that goes on is to compute what it did. All
  processes of a CPU's run are taken to be on one host.
  """
  found = limit(limit_gib) or _device_limit()
  host = _host('SC_PHYS_PAGES')
  if found is None and host and jax.default_backend() == 'cpu':
    found = int(_OF_A_HOST * host) // jax.device_count()
  return found


def check(
  members: int,
  *,
  each: int,
  weights: int,
  limit_gib: float,
  task: str,
  remat: str,
) -> None:
  """Refuses a population that does not fit, before anything is compiled.

  Args:
    each: bytes of a member's training, see `member_bytes`.
    weights: bytes of the frozen weights, held once and loaded already.
    limit_gib: what there is; 0 asks the device.
    remat: what layers keep.

  Raises:
    UserError: with the estimate and how many would fit.
  """
  found = limit(limit_gib) or _device_bytes(weights)
  if found is None or weights + members * each <= found:
    return
  fit = max(0, (found - weights) // each)
  more = '' if remat == REMAT[-1] else f', remat={REMAT[-1]}'
  raise UserError(
    f'{task}: {members} members would take about '
    f'{(weights + members * each) / GIB:.2f} GiB ({weights / GIB:.2f} of '
    f'weights and {each / GIB:.2f} a member), but there are '
    f'{found / GIB:.2f}; about {fit} fit: make the population or '
    f'train.batch_size smaller, or set train.accumulate{more} or, if you know '
    'better, population.memory'
  )


def _device_bytes(weights: int) -> int | None:
  """What the device has for a run; on a CPU, what is free and the weights."""
  found = _device_limit()
  if found is None and (free := _host('SC_AVPHYS_PAGES')):
    found = free + weights
  return found


def _device_limit() -> int | None:
  """What the device says that it may hold; a CPU says nothing."""
  stats = jax.local_devices()[0].memory_stats() or {}
  return stats.get('bytes_limit')


def _host(pages: str) -> int | None:
  try:
    return os.sysconf(pages) * os.sysconf('SC_PAGE_SIZE')
  except (ValueError, OSError):
    return None
