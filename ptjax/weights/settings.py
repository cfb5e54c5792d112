"""Reading a config.json: sizes, ids, and what must not be overlooked.

Owns what every family does with its settings. Knows no family.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from ptjax.config import UserError

# Attributes that say nothing of any network.
IGNORED = frozenset(
  (
    '_commit_hash',
    '_name_or_path',
    'architectures',
    'dtype',
    'finetuning_task',
    'gradient_checkpointing',
    'id2label',
    'label2id',
    'max_length',
    'model_type',
    'output_past',
    'task_specific_params',
    'tokenizer_class',
    'torch_dtype',
    'transformers_version',
    'use_cache',
  )
)

# Attributes that must be absent or as here, in every family.
DEFAULTS: dict[str, tuple[Any, ...]] = {
  'add_cross_attention': (False,),
  'chunk_size_feed_forward': (0,),
  'cross_attention_hidden_size': (None,),
  'is_decoder': (False,),
  'output_attentions': (False,),
  'output_hidden_states': (False,),
  'problem_type': (None,),
  'pruned_heads': ({}, None),
  'return_dict': (True,),
  'sep_token_id': (None,),
  'tf_legacy_loss': (False,),
  'tie_encoder_decoder': (False,),
  'torchscript': (False,),
  'use_bfloat16': (False,),
}


def sizes(
  values: dict[str, Any], keys: Sequence[str], *, kind: str, where: str
) -> dict[str, int]:
  """Takes the whole numbers of `keys` out of the settings."""
  missing = [key for key in keys if not _positive(values.get(key))]
  if missing:
    raise UserError(
      f'{where}: config.json says no whole number for {", ".join(missing)}, '
      f'without which a {kind} has no shape.'
    )
  return {key: values.pop(key) for key in keys}


def _positive(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value > 0


def one_id(
  values: dict[str, Any], key: str, default: int, *, where: str
) -> int:
  """Takes a token's id out of the settings."""
  value = values.pop(key, None)
  value = default if value is None else value
  if not isinstance(value, int):
    raise UserError(f'{where}: {key} is {value!r}, expected one id.')
  return value


def refuse_unknown(
  values: Mapping[str, Any],
  *,
  ignored: Set[str],
  defaults: Mapping[str, tuple[Any, ...]],
  kind: str,
  where: str,
) -> None:
  """Raises for what is left of the settings and may change the network."""
  odd = [
    f'{key}={value!r}'
    for key, value in values.items()
    if key not in ignored
    and (key not in defaults or value not in defaults[key])
  ]
  if odd:
    raise UserError(
      f'{where}: config.json says {", ".join(sorted(odd))}, which this {kind} '
      'does not do; if it does not change the network, remove it from the file.'
    )
