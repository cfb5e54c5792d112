"""Writes causal/: small random GPTs as transformers saves them, their logits.

  python -m tests.goldens.causal_models

Needs torch and transformers; the tests need neither.
"""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import numpy as np

FOLDER = pathlib.Path(__file__).with_name('causal')
EVERY = 7  # recorded positions of the logits
STEPS = 12  # recorded ids behind the inputs
# num_beams, length_penalty, early_stopping
BEAMS = ((3, 1.0, False), (4, 0.0, False), (2, 2.0, True), (2, 3.0, False))


@dataclasses.dataclass(frozen=True)
class Case:
  """A network: what its config says, and how its file is written."""

  kind: str  # transformers' name of the family
  config: dict[str, Any]
  seed: int = 0  # chosen so that some greedy answers end early
  published: bool = False  # names, buffers and settings as on the hub


_GPT2 = dict(vocab_size=61, n_positions=200)
_BOTH = dict(vocab_size=61, max_position_embeddings=200, num_hidden_layers=2)
_NEOX = _BOTH | dict(hidden_size=24, num_attention_heads=3)
_ROPE = dict(rope_type='default', rope_theta=10000.0)

CASES = {
  'gpt2': Case(
    'GPT2',
    _GPT2 | dict(n_embd=15, n_head=3, n_layer=3, n_inner=17, eos_token_id=5),
    seed=34,
  ),
  'gpt2_untied': Case(
    'GPT2',
    _GPT2
    | dict(n_embd=14, n_head=2, n_layer=2, eos_token_id=5)
    | dict(tie_word_embeddings=False, activation_function='gelu'),
    published=True,
    seed=26,
  ),
  'pythia': Case(
    'GPTNeoX',
    _NEOX
    | dict(intermediate_size=17, eos_token_id=5)
    | dict(rope_parameters=_ROPE | dict(partial_rotary_factor=0.25)),
    published=True,
    seed=16,
  ),
  'neox_sequential': Case(
    'GPTNeoX',
    _NEOX
    | dict(intermediate_size=19, hidden_size=18, eos_token_id=5)
    | dict(use_parallel_residual=False, attention_bias=False)
    | dict(tie_word_embeddings=True)
    | dict(rope_parameters=_ROPE | dict(partial_rotary_factor=1.0)),
    seed=3,
  ),
  'llama': Case(
    'Llama',
    _BOTH
    | dict(hidden_size=18, intermediate_size=17, head_dim=4, eos_token_id=5)
    | dict(num_attention_heads=6, num_key_value_heads=2)
    | dict(rope_parameters=_ROPE | dict(rope_theta=500.0)),
    seed=38,
  ),
  'llama3': Case(
    'Llama',
    _BOTH
    | dict(hidden_size=15, intermediate_size=17, head_dim=6, eos_token_id=5)
    | dict(num_attention_heads=3, num_key_value_heads=1)
    | dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)
    | dict(
      rope_parameters=dict(
        rope_type='llama3',
        rope_theta=100.0,
        factor=4.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=64,
      )
    ),
    published=True,
    seed=23,
  ),
}


def build(case: Case, seed: int) -> Any:
  """transformers' model with random weights everywhere, norms too."""
  import torch
  import transformers

  head = 'LMHeadModel' if case.kind == 'GPT2' else 'ForCausalLM'
  config = getattr(transformers, f'{case.kind}Config')(**case.config)
  torch.manual_seed(seed)
  model = getattr(transformers, case.kind + head)(config)
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      norm = any(part in name for part in ('norm', 'ln_'))
      if norm and name.endswith('.weight'):
        parameter.uniform_(0.5, 1.5)
      else:
        parameter.normal_(0, 0.4)
  return model.eval()


def inputs(seed: int = 0) -> dict[str, np.ndarray]:
  """Rows longer than 128: padded on the right, on the left, and not."""
  rng = np.random.default_rng(seed)
  ids = rng.integers(6, 61, (3, 150))
  mask = np.ones(ids.shape, bool)
  mask[0, 90:] = False
  mask[1, :40] = False
  return {'ids': np.where(mask, ids, 5).astype(np.int32), 'mask': mask}


def questions(seed: int = 0) -> dict[str, np.ndarray]:
  """Inputs of generate: four rows of other lengths, padded on the left."""
  rng = np.random.default_rng(seed + 2)
  mask = np.arange(20) >= 20 - np.array([20, 13, 7, 1])[:, None]
  ids = np.where(mask, rng.integers(6, 61, mask.shape), 5)
  return {'ids': ids.astype(np.int32), 'mask': mask}


def prompt(width: int) -> np.ndarray:
  rng = np.random.default_rng(1)
  return rng.normal(size=(3, 5, width)).astype(np.float32)


def computed(model: Any, seed: int = 0) -> dict[str, np.ndarray]:
  """Logits, with and without prompt rows in front, and generated ids."""
  import torch

  given = inputs(seed)
  ids = torch.tensor(given['ids']).long()
  mask = torch.tensor(given['mask']).long()
  embedded = model.get_input_embeddings()(ids)
  rows = torch.tensor(prompt(embedded.shape[-1]))
  ones = torch.ones(rows.shape[:2], dtype=torch.long)

  def run(embedded: Any, mask: Any, front: int = 0) -> np.ndarray:
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(
      inputs_embeds=embedded, attention_mask=mask, position_ids=positions
    ).logits
    return logits[:, front::EVERY].numpy()

  def with_rows(first: Any) -> np.ndarray:
    parts = first.expand(3, -1, -1), embedded
    return run(torch.cat(parts, 1), torch.cat((ones, mask), 1), 5)

  with torch.no_grad():
    return {
      'logits': run(embedded, mask),
      'logits_front': with_rows(rows[:1]),
      'logits_each_front': with_rows(rows),
    } | generated(model, seed)


def generated(model: Any, seed: int = 0) -> dict[str, np.ndarray]:
  """What generate adds to the questions: greedy, and by beams."""
  import torch

  given = questions(seed)

  def run(**settings: Any) -> np.ndarray:
    found = model.generate(
      input_ids=torch.tensor(given['ids']).long(),
      attention_mask=torch.tensor(given['mask']).long(),
      max_new_tokens=STEPS,
      do_sample=False,
      pad_token_id=model.config.eos_token_id,
      **settings,
    ).numpy()[:, given['ids'].shape[1] :]
    behind = ((0, 0), (0, STEPS - found.shape[1]))
    return np.pad(found, behind, constant_values=5).astype(np.int32)

  beams = {
    f'beams_{number}_{penalty}_{early}': run(
      num_beams=number, length_penalty=penalty, early_stopping=early
    )
    for number, penalty, early in BEAMS
  }
  return {'greedy': run(), **beams}


def save(model: Any, case: Case, folder: pathlib.Path) -> None:
  """The model as transformers 5 saves it, or as such models were published."""
  model.save_pretrained(folder)
  if case.published:
    {'GPT2': _gpt2, 'GPTNeoX': _neox, 'Llama': _llama}[case.kind](model, folder)


def _settings(folder: pathlib.Path, remove: tuple[str, ...], **more) -> None:
  path = folder / 'config.json'
  values = json.loads(path.read_text())
  for key in ('dtype', *remove):
    values.pop(key, None)
  values |= {'torch_dtype': 'float32', **more}
  path.write_text(json.dumps(values, indent=2) + '\n')


def _gpt2(model: Any, folder: pathlib.Path) -> None:
  """No prefix, the causal mask as a buffer, and the older settings."""
  import safetensors.torch as files
  import torch

  path = folder / 'model.safetensors'
  tensors = {
    name.removeprefix('transformer.'): tensor
    for name, tensor in files.load_file(path).items()
  }
  for layer in range(model.config.n_layer):
    mask = torch.ones(1, 1, 8, 8).tril()
    tensors[f'h.{layer}.attn.bias'] = mask
    tensors[f'h.{layer}.attn.masked_bias'] = torch.tensor(-1e4)
  files.save_file(tensors, path, metadata={'format': 'pt'})
  sampling = {'text-generation': {'do_sample': True, 'max_length': 50}}
  _settings(
    folder,
    ('n_inner', 'pad_token_id', 'tie_word_embeddings'),
    n_ctx=200,
    task_specific_params=sampling,
  )


def _neox(model: Any, folder: pathlib.Path) -> None:
  """A .bin with three buffers a layer, and Pythia's settings."""
  import safetensors.torch as files
  import torch

  path = folder / 'model.safetensors'
  # transformers 5 calls the head otherwise in memory, and as ever in files.
  state = files.load_file(path)
  path.unlink()
  for layer in range(model.config.num_hidden_layers):
    attention = f'gpt_neox.layers.{layer}.attention'
    mask = torch.ones(1, 1, 8, 8).tril().bool()
    state[f'{attention}.bias'] = mask
    state[f'{attention}.masked_bias'] = torch.tensor(-1e9)
    state[f'{attention}.rotary_emb.inv_freq'] = torch.ones(1)
  torch.save(state, folder / 'pytorch_model.bin')
  _settings(
    folder, ('rope_parameters',), rotary_pct=0.25, rotary_emb_base=10000
  )


def _llama(model: Any, folder: pathlib.Path) -> None:
  """rope_theta and rope_scaling, as before transformers 5."""
  rope = dict(model.config.rope_parameters)
  _settings(
    folder,
    ('rope_parameters',),
    rope_theta=rope.pop('rope_theta'),
    rope_scaling=rope,
  )


def main() -> None:
  shutil.rmtree(FOLDER, ignore_errors=True)
  for name, case in CASES.items():
    model = build(case, case.seed)
    save(model, case, FOLDER / name)
    (FOLDER / name / 'generation_config.json').unlink()
    np.savez_compressed(FOLDER / name / 'golden.npz', **computed(model))


if __name__ == '__main__':
  main()
