"""Writes t5/: small random T5s as transformers saves them, and their logits.

  python -m tests.goldens.t5_models

Needs torch and transformers; the tests need neither.
"""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import numpy as np

FOLDER = pathlib.Path(__file__).with_name('t5')

# Sizes are odd on purpose: heads times head size is not the width.
_SIZES = dict(
  vocab_size=61,
  d_model=10,
  d_kv=3,
  d_ff=17,
  num_heads=3,
  decoder_start_token_id=0,
)


@dataclasses.dataclass(frozen=True)
class Case:
  """A network: what its config says, and whether the head is untied."""

  config: dict[str, Any]
  untied: bool = False
  mt5: bool = False
  seed: int = 0  # most are chosen so that a greedy answer ends early
  written: str = 'model.safetensors'


CASES = {
  't5_1_0': Case(
    dict(feed_forward_proj='relu', num_layers=2, num_decoder_layers=2),
  ),
  # transformers 5 saves an untied 1.1 with tie_word_embeddings: true.
  't5_1_1': Case(
    dict(
      feed_forward_proj='gated-gelu',
      tie_word_embeddings=False,
      num_layers=1,
      num_decoder_layers=3,
    ),
    untied=True,
    seed=27,
  ),
  # As the LM-adapted T5s are published: a .bin, and the old flag.
  'lm_adapt_bin': Case(
    dict(
      feed_forward_proj='gated-gelu',
      tie_word_embeddings=False,
      num_layers=3,
      num_decoder_layers=1,
      d_model=9,
      num_heads=4,
    ),
    untied=True,
    written='pytorch_model.bin',
    seed=10,
  ),
  'flan_tied_unscaled': Case(
    dict(
      feed_forward_proj='gated-gelu',
      tie_word_embeddings=False,
      num_layers=2,
      num_decoder_layers=1,
      relative_attention_num_buckets=12,
      relative_attention_max_distance=40,
    ),
    seed=65,
  ),
  'mt5': Case(
    dict(
      feed_forward_proj='gated-gelu',
      tie_word_embeddings=False,
      num_layers=1,
      num_decoder_layers=1,
      vocab_size=131,
    ),
    untied=True,
    mt5=True,
    seed=71,
  ),
}


def build(case: Case, seed: int) -> Any:
  """transformers' model with random weights everywhere, norms too."""
  import torch
  import transformers

  kind = 'MT5' if case.mt5 else 'T5'
  config = getattr(transformers, f'{kind}Config')(**(_SIZES | case.config))
  torch.manual_seed(seed)
  model = getattr(transformers, f'{kind}ForConditionalGeneration')(config)
  with torch.no_grad():
    if case.untied:
      head = torch.empty(config.vocab_size, config.d_model)
      model.lm_head.weight = torch.nn.Parameter(head)
    for name, parameter in model.named_parameters():
      if name.endswith('layer_norm.weight'):
        parameter.uniform_(0.5, 1.5)
      else:
        parameter.normal_(0, 0.4)
  return model.eval()


def inputs(vocab_size: int, seed: int = 0) -> dict[str, np.ndarray]:
  """Rows longer than 128: padded on the right, on the left, and not."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(2, vocab_size, (3, 150))
  mask = np.ones(ids.shape, bool)
  mask[0, 90:] = False
  mask[1, :40] = False
  decoder_ids = rng.integers(2, vocab_size, (3, 5))
  decoder_ids[:, 0] = 0
  return {
    'ids': np.where(mask, ids, 0).astype(np.int32),
    'mask': mask,
    'decoder_ids': decoder_ids.astype(np.int32),
  }


def prompt(width: int) -> np.ndarray:
  rng = np.random.default_rng(1)
  return rng.normal(size=(3, 5, width)).astype(np.float32)


def computed(model: Any, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Logits, greedy ids, and logits with prompt rows in front and within."""
  import torch

  ids = torch.tensor(given['ids']).long()
  mask = torch.tensor(given['mask']).long()
  decoder_ids = torch.tensor(given['decoder_ids']).long()
  rows = torch.tensor(prompt(model.config.d_model))
  ones = torch.ones(rows.shape[:2], dtype=torch.long)
  embedded = model.get_input_embeddings()(ids)

  def with_rows(first: Any, at: int) -> np.ndarray:
    parts = embedded[:, :at], first.expand(3, -1, -1), embedded[:, at:]
    masks = mask[:, :at], ones, mask[:, at:]
    return model(
      inputs_embeds=torch.cat(parts, 1),
      attention_mask=torch.cat(masks, 1),
      decoder_input_ids=decoder_ids,
    ).logits.numpy()

  with torch.no_grad():
    logits = model(
      input_ids=ids, attention_mask=mask, decoder_input_ids=decoder_ids
    ).logits.numpy()
    # Without its cache, which takes the decoder to be as deep as the encoder.
    greedy = model.generate(
      input_ids=ids,
      attention_mask=mask,
      max_new_tokens=12,
      do_sample=False,
      use_cache=False,
    ).numpy()
    return {
      'logits': logits,
      'greedy': greedy.astype(np.int32),
      'logits_front': with_rows(rows[:1], 0),
      'logits_each_front': with_rows(rows, 0),
      'logits_middle': with_rows(rows[:1], 60),
    }


def buckets() -> dict[str, np.ndarray]:
  """transformers' bucket of every distance, for several networks."""
  import torch
  from transformers.models.t5.modeling_t5 import T5Attention

  distance = torch.arange(-700, 701)
  return {
    f'{number}-{reach}-{side}': T5Attention._relative_position_bucket(
      distance, bool(side), number, reach
    )
    .numpy()
    .astype(np.int8)
    for number, reach in ((32, 128), (12, 40), (4, 8), (64, 500), (30, 100))
    for side in (0, 1)
  }


def save(model: Any, case: Case, folder: pathlib.Path) -> None:
  """The model in the format that the case is about."""
  import torch

  model.save_pretrained(folder)
  if case.written == 'model.safetensors':
    return
  (folder / 'model.safetensors').unlink()
  state = model.state_dict()  # with the copies of the embedding, as published
  name = 'encoder.block.0.layer.0.SelfAttention.q.weight'
  state[name] = state[name].T.contiguous().T  # a view with strides
  unused = 'decoder.block.0.layer.1.EncDecAttention'
  state[f'{unused}.relative_attention_bias.weight'] = torch.zeros(32, 4)
  torch.save(state, folder / case.written)
  config = json.loads((folder / 'config.json').read_text())
  for key in ('scale_decoder_outputs', 'is_gated_act', 'dense_act_fn', 'dtype'):
    del config[key]
  config |= {
    'tie_word_embeddings': False,
    'output_past': True,
    'n_positions': 512,
    'torch_dtype': 'float32',
    'gradient_checkpointing': False,
    'task_specific_params': {'summarization': {'num_beams': 4}},
  }
  (folder / 'config.json').write_text(json.dumps(config, indent=2) + '\n')


def main() -> None:
  shutil.rmtree(FOLDER, ignore_errors=True)
  for name, case in CASES.items():
    model = build(case, case.seed)
    save(model, case, FOLDER / name)
    (FOLDER / name / 'generation_config.json').unlink()
    given = inputs(model.config.vocab_size)
    arrays = computed(model, given)
    np.savez_compressed(FOLDER / name / 'golden.npz', **arrays)
  np.savez_compressed(FOLDER / 'buckets.npz', **buckets())


if __name__ == '__main__':
  main()
