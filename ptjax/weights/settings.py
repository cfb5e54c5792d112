"""Reading a config.json: sizes, ids, and what must not be overlooked.

Owns what every family does with its settings. Knows no family.
"""

import dataclasses
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
  missing = [key for key in keys if not _whole(values.get(key), 1)]
  if missing:
    raise UserError(
      f'{where}: config.json says no whole number for {", ".join(missing)}, '
      f'without which a {kind} has no shape.'
    )
  return {key: values.pop(key) for key in keys}


@dataclasses.dataclass(frozen=True)
class Said:
  """Takes what a config.json says, each key once and in its own type."""

  values: dict[str, Any]
  where: str

  def whole(self, key: str, usual: int | None, *, least: int = 1) -> int:
    """Null is as if it were not said, which None as `usual` refuses."""
    value = self._take(key, usual)
    self.check(_whole(value, least), key, value, f'a whole number from {least}')
    return value

  def id(self, key: str, usual: int, *, last: int) -> int:
    value = self._take(key, None)
    if value is None:
      return usual
    fits = _whole(value, 0) and value <= last
    self.check(fits, key, value, f'an id from 0 to {last}')
    return value

  def number(self, key: str, usual: float) -> float:
    """A small one, such as an epsilon or a rate."""
    value = self.values.pop(key, usual)
    fits = type(value) in (int, float) and 0 <= value < 1
    self.check(fits, key, value, 'a number from 0 and below 1')
    return float(value)

  def positive(self, key: str, usual: float | None = None) -> float:
    """One that must be said where nothing is usual."""
    value = self._take(key, usual)
    fits = type(value) in (int, float) and 0 < value < float('inf')
    self.check(fits, key, value, 'a number above 0')
    return float(value)

  def flag(self, key: str, usual: bool | None = None) -> bool | None:
    """None where it is not said and nothing is usual."""
    value = self._take(key, usual)
    fits = value is None or type(value) is bool
    self.check(fits, key, value, 'true or false')
    return value

  def text(self, key: str, usual: str = '') -> str:
    value = self._take(key, usual)
    self.check(isinstance(value, str), key, value, 'text')
    return value

  def check(self, fits: bool, key: str, value: Any, what: str) -> None:
    if not fits:
      raise UserError(f'{self.where}: {key} is {value!r}, expected {what}.')

  def _take(self, key: str, usual: Any) -> Any:
    value = self.values.pop(key, None)
    return usual if value is None else value


def _whole(value: Any, least: int) -> bool:
  return type(value) is int and value >= least


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
