"""Which table reads which kind of model.

Owns the names of the families. A table offers NETWORK, canonical, config,
tensors and to_json; it is imported when its family is met.
"""

import importlib
from types import ModuleType
from typing import Any

# model_type of a config.json -> the table.
MODEL_TYPES = {
  't5': 't5',
  'mt5': 't5',
  'gpt2': 'gpt2',
  'gpt_neox': 'gpt_neox',
  'llama': 'llama',
}

_CONFIGS = {
  'T5Config': 't5',
  'GPT2Config': 'gpt2',
  'GPTNeoXConfig': 'gpt_neox',
  'LlamaConfig': 'llama',
}


def of_type(model_type: str) -> ModuleType:
  """The table of a model_type, one of MODEL_TYPES."""
  return importlib.import_module(f'ptjax.weights.{MODEL_TYPES[model_type]}')


def of_config(config: Any) -> ModuleType:
  """The table of one of our configs."""
  name = _CONFIGS[type(config).__name__]
  return importlib.import_module(f'ptjax.weights.{name}')
