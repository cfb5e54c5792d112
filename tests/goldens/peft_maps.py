"""Writes peft/lora_* and ia3_*: adapters of linear maps as PEFT saves them.

  python -m tests.goldens.peft_maps

Needs peft, torch and transformers; the tests of the goldens need none of them.
"""

import warnings
from typing import Any

import numpy as np

from tests.goldens import causal_models, peft_adapters, t5_models

FOLDER = peft_adapters.FOLDER
CONFIGS = {'lora': 'LoraConfig', 'ia3': 'IA3Config'}
# One of each family, by the folder of this package.
MODELS = {
  't5_1_0': t5_models.FOLDER / 't5_1_0',
  'gpt2': causal_models.FOLDER / 'gpt2',
  'pythia': causal_models.FOLDER / 'pythia',
  'llama': causal_models.FOLDER / 'llama',
}
# Of odd rank, and alpha over it is no whole number.
LORA = {'r': 3, 'lora_alpha': 5}


def adapter(model: Any, method: str, **settings: Any) -> Any:
  """An adapter of a model with PEFT's own maps, at random values."""
  import peft
  import torch

  seq2seq = getattr(model.config, 'is_encoder_decoder', False)
  settings['task_type'] = 'SEQ_2_SEQ_LM' if seq2seq else 'CAUSAL_LM'
  settings = {**(LORA if method == 'lora' else {}), **settings}
  torch.manual_seed(4)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    config = getattr(peft, CONFIGS[method])(**settings)
    made = peft.get_peft_model(model, config).eval()
  with torch.no_grad():
    for name, parameter in made.named_parameters():
      if parameter.requires_grad:
        noise = 0.3 * torch.randn(parameter.shape)
        parameter.copy_(noise + (1.0 if 'ia3' in name else 0.0))
  return made


def main() -> None:
  for method in CONFIGS:
    for name, folder in MODELS.items():
      model = peft_adapters.network(folder, f'goldens/{name}')
      made, target = adapter(model, method), FOLDER / f'{method}_{name}'
      made.save_pretrained(target)
      (target / 'README.md').unlink()  # a card with nothing in it
      spoken = peft_adapters.said(made)
      # Every seventh piece is enough to tell.
      np.savez(
        target / peft_adapters.SAID,
        logits=spoken['logits'][..., ::7],
        greedy=spoken['greedy'].astype(np.int16),
      )


if __name__ == '__main__':
  main()
