"""Writes peft/: three adapters as PEFT 0.21.2 saves them, and what it says.

  python -m tests.goldens.peft_adapters

Needs peft, torch and transformers; the tests of the goldens need none of them.
"""

import json
import os
import pathlib
import warnings
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / 'peft'
LENGTH, STEPS = 3, 6  # virtual tokens; ids generated
# The golden adapters' models, by the folder of this package.
MODELS = {'t5_1_0': HERE / 't5/t5_1_0', 'gpt2': HERE / 'causal/gpt2'}
# A prefix, and its model, whose heads share keys.
PREFIX, OF_PREFIX = FOLDER / 'llama_prefix', HERE / 'causal/llama'
SAID = 'said.npz'


def given(vocab_size: int) -> dict[str, np.ndarray]:
  """Two rows that need no padding, in which PEFT and a single row differ."""
  rng = np.random.default_rng(5)
  inputs = rng.integers(6, vocab_size, (2, 9)).astype(np.int32)
  targets = rng.integers(6, vocab_size, (2, 4)).astype(np.int32)
  return {'inputs': inputs, 'targets': targets}


def network(folder: pathlib.Path, name: str = '') -> Any:
  """transformers' model of a folder, called `name` in what PEFT writes."""
  os.environ['HF_HUB_OFFLINE'] = '1'
  import transformers

  transformers.utils.logging.disable_progress_bar()
  kind = json.loads((folder / 'config.json').read_text())['model_type']
  kind = 'Seq2SeqLM' if kind in ('t5', 'mt5') else 'CausalLM'
  auto = getattr(transformers, f'AutoModelFor{kind}')
  model = auto.from_pretrained(folder).eval()
  model.name_or_path = name or str(folder)
  return model


def adapter(model: Any, config: str = 'PromptTuningConfig', **settings) -> Any:
  """A new adapter of a model, with PEFT's defaults and a seed of its own."""
  import peft
  import torch

  torch.manual_seed(3)
  settings['task_type'] = 'SEQ_2_SEQ_LM' if _seq2seq(model) else 'CAUSAL_LM'
  settings = {'num_virtual_tokens': LENGTH, **settings}
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return peft.get_peft_model(model, getattr(peft, config)(**settings)).eval()


def said(model: Any) -> dict[str, np.ndarray]:
  """Logits of the targets [B, T, V], and greedy ids [B, STEPS] of generate."""
  import torch

  config = model.config
  rows = {
    k: torch.tensor(v).long() for k, v in given(config.vocab_size).items()
  }
  inputs, targets = rows['inputs'], rows['targets']
  mask, length = torch.ones_like(inputs), inputs.shape[1]
  with torch.no_grad(), warnings.catch_warnings():
    warnings.simplefilter('ignore')
    if _seq2seq(model):
      start = torch.full_like(targets[:, :1], config.decoder_start_token_id)
      logits = model(
        input_ids=inputs,
        attention_mask=mask,
        decoder_input_ids=torch.cat([start, targets[:, :-1]], 1),
      ).logits
    else:
      ids = torch.cat([inputs, targets], 1)
      logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
      first = logits.shape[1] - targets.shape[1] - 1
      logits = logits[:, first:-1]
    # Without a cache, which takes a decoder to be as deep as its encoder.
    found = model.generate(
      input_ids=inputs,
      attention_mask=mask,
      max_new_tokens=STEPS,
      do_sample=False,
      use_cache=not _seq2seq(model),
      pad_token_id=config.eos_token_id,
    )[:, 1 if _seq2seq(model) else length :]
  ids = np.full((len(found), STEPS), config.eos_token_id, np.int32)
  ids[:, : found.shape[1]] = found.numpy()
  return {'logits': logits.numpy(), 'greedy': ids}


def _seq2seq(model: Any) -> bool:
  return bool(getattr(model.config, 'is_encoder_decoder', False))


def main() -> None:
  for name, folder in MODELS.items():
    _record(adapter(network(folder, f'goldens/{name}')), FOLDER / name)
  model = network(OF_PREFIX, 'goldens/llama')
  _record(adapter(model, 'PrefixTuningConfig'), PREFIX)


def _record(made: Any, folder: pathlib.Path) -> None:
  made.save_pretrained(folder)
  (folder / 'README.md').unlink()  # a card with nothing in it
  spoken = said(made)
  # Every seventh piece is enough to tell.
  np.savez(
    folder / SAID,
    logits=spoken['logits'][..., ::7],
    greedy=spoken['greedy'].astype(np.int16),
  )


if __name__ == '__main__':
  main()
