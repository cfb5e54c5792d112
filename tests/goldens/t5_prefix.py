"""Writes t5/CASE/prefix.npz: what transformers' T5 says behind a prefix.

  python -m tests.goldens.t5_prefix

In the decoder the prefix lies in transformers' own caches, and has the relative
bias of its positions. Its encoder has no cache, so its blocks are called one by
one with one, and with a bias that is zero over the prefix. Needs torch and
transformers; the tests of the goldens need neither.
"""

import pathlib
from typing import Any

import numpy as np

from . import t5_models

CASES = ('t5_1_1', 'lm_adapt_bin')
LENGTH = 4  # places of a prefix
SIDES = ('encoder', 'self', 'cross')
FILE = 'prefix.npz'


def values(config: Any) -> dict[str, np.ndarray]:
  """Keys and values [N, 2, P, H, K] of each side, by the model's sizes."""
  rng = np.random.default_rng(4)
  depths = config.num_layers, *(config.num_decoder_layers,) * 2
  size = LENGTH, config.num_heads, config.d_kv
  return {
    side: rng.normal(size=(depth, 2, *size)).astype(np.float32)
    for side, depth in zip(SIDES, depths)
  }


def said(model: Any, sides: tuple[str, ...]) -> np.ndarray:
  """Logits behind the prefixes of these sides, of the goldens' rows."""
  import torch
  import transformers

  given = t5_models.inputs(model.config.vocab_size)
  ids, decoder_ids = (
    torch.tensor(given[name]).long() for name in ('ids', 'decoder_ids')
  )
  mask = torch.tensor(given['mask'])
  rows = len(ids)

  def cache(side: str, none: bool = False):
    """A cache [B, H, P, K] a layer; without places where none is asked for."""
    made = transformers.DynamicCache()
    for layer, both in enumerate(torch.tensor(values(model.config)[side])):
      key, value = both.transpose(1, 2)[:, None].expand(-1, rows, -1, -1, -1)
      if none:
        key, value = key[:, :, :0], value[:, :, :0]
      made.update(key, value, layer)
    return made

  with torch.no_grad():
    encoder = model.encoder
    first = encoder.block[0].layer[0].SelfAttention
    bias = first.compute_bias(ids.shape[1], ids.shape[1])
    bias = bias + torch.where(mask, 0.0, -1e9)[:, None, None]
    if 'encoder' in sides:
      bias = torch.nn.functional.pad(bias, (LENGTH, 0))
    x = model.get_input_embeddings()(ids)
    held = cache('encoder', none='encoder' not in sides)
    for block in encoder.block:
      x = block(x, None, bias, past_key_values=held)[0]
    encoded = encoder.final_layer_norm(x)

    both = transformers.EncoderDecoderCache(
      cache('self', none='self' not in sides),
      cache('cross', none='cross' not in sides),
    )
    for layer, block in enumerate(model.decoder.block):
      attention = block.layer[1].EncDecAttention
      shape = *encoded.shape[:2], -1, model.config.d_kv
      key, value = (
        part(encoded).view(shape).transpose(1, 2)
        for part in (attention.k, attention.v)
      )
      both.cross_attention_cache.update(key, value, layer)
      both.is_updated[layer] = True
    seen = torch.where(mask, 0.0, -1e9)[:, None, None]
    if 'cross' in sides:
      seen = torch.nn.functional.pad(seen, (LENGTH, 0))
    out = model.decoder(
      input_ids=decoder_ids,
      encoder_hidden_states=encoded,
      encoder_attention_mask=seen.expand(-1, 1, decoder_ids.shape[1], -1),
      past_key_values=both,
      use_cache=True,
    ).last_hidden_state
    if getattr(model.config, 'scale_decoder_outputs', False):
      out = out * model.config.d_model**-0.5
    return model.lm_head(out).numpy()


def computed(model: Any) -> dict[str, np.ndarray]:
  """Logits [3, 5, V / 3] of each side's prefix alone, and of all."""
  wanted = {side: (side,) for side in SIDES} | {'all': SIDES}
  # Every third piece is enough to tell.
  return {k: said(model, sides)[..., ::3] for k, sides in wanted.items()}


def main() -> None:
  for name in CASES:
    case = t5_models.CASES[name]
    arrays = computed(t5_models.build(case, case.seed))
    folder = pathlib.Path(t5_models.FOLDER) / name
    np.savez_compressed(folder / FILE, **arrays)


if __name__ == '__main__':
  main()
