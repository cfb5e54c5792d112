"""LoRA and IA3 as PEFT reads them: parameters of ours -> tensors and settings.

Owns what `maps_from_peft` owns, the other way. The folder is `export.peft`'s.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ptjax import tree
from ptjax.config import UserError
from ptjax.export import maps
from ptjax.export.maps_from_peft import KINDS, MODULES
from ptjax.export.prompt import Prompt
from ptjax.weights import table

# Ours -> the end of PEFT's name.
_NAMES = {
  'lora_a': 'lora_A.weight',
  'lora_b': 'lora_B.weight',
  'scale': 'ia3_l',
  'scale_in': 'ia3_l',
}

Tuned = list[tuple[maps.Map, dict[str, np.ndarray]]]


def holds(found: Prompt) -> bool:
  """Whether a prompt is of one of these methods."""
  return len(found.own) == 1 and set(found.own) <= {*KINDS.values(), MODULES}


def adapter(
  found: Prompt, rows: Sequence[table.Tensor]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """(tensors, settings that are this kind's own) of an adapter.

  What is as by PEFT's default is not said, so that others of its versions read
  it too.

  Args:
    found: of `lora` or `ia3`, placed.
    rows: the model's tensors.

  Raises:
    UserError: it is not of that model, or does not say how it is scaled.
  """
  every = maps.of(rows)
  tuned = _tuned(found, every)
  inner = [map_ for map_, ports in tuned if 'scale_in' in ports]
  outer = [map_ for map_, ports in tuned if 'scale_in' not in ports]
  feedforward = maps.ends(inner, every)
  said = {
    'fan_in_fan_out': any(map_.turned for map_, _ in tuned),
    'modules_to_save': None,
    'target_modules': sorted({*maps.ends(outer, every), *feedforward}),
  }
  if 'ia3' in found.own:
    said |= {'feedforward_modules': feedforward, 'peft_type': 'IA3'}
  else:
    said |= _low_rank(found, tuned[0][1]['lora_a'].shape[-1])
  return _tensors(tuned), said


def _low_rank(found: Prompt, rank: int) -> dict[str, Any]:
  method = found.record.get('method', {})
  if not isinstance(method, dict) or 'alpha' not in method:
    raise UserError(
      f'{found.path} does not say its method.alpha, by which its maps are '
      'scaled; give the file of a run'
    )
  alpha = float(method['alpha'])
  return {
    'bias': 'none',
    'lora_alpha': int(alpha) if alpha.is_integer() else alpha,
    'lora_dropout': 0.0,
    'peft_type': 'LORA',
    'r': rank,
  }


def _tensors(tuned: Tuned) -> dict[str, np.ndarray]:
  """float32; of one layer each."""
  out = {}
  for map_, ports in tuned:
    for port, array in ports.items():
      layers = array if map_.stack else array[None]
      for module, layer in zip(map_.modules, layers, strict=True):
        theirs = _theirs(port, layer, map_)
        name = f'base_model.model.{module}.{_NAMES[port]}'
        out[name] = np.ascontiguousarray(theirs, np.float32)
  return out


def _theirs(port: str, layer: np.ndarray, map_: maps.Map) -> np.ndarray:
  shape = {
    'lora_a': (map_.inputs, -1),
    'lora_b': (-1, map_.outputs),
    'scale': (1, map_.outputs),
    'scale_in': (map_.inputs, 1),
  }[port]
  return layer.reshape(shape).T


def _tuned(found: Prompt, every: Sequence[maps.Map]) -> Tuned:
  """Each map that is tuned and its ports, which fit it."""
  (own,) = found.own.values()
  known = {map_.scope: map_ for map_ in every}
  ports_of: dict[str, dict[str, np.ndarray]] = {}
  for name, array in tree.flatten(own).items():
    scope, _, port = name.rpartition('/')
    ports_of.setdefault(scope, {})[port] = np.asarray(array)
  for scope, ports in ports_of.items():
    if scope not in known:
      raise UserError(
        f'{found.path} tunes {scope}, which the model that the configuration '
        f'names does not have; its maps are {", ".join(known)}'
      )
    rank = ports['lora_a'].shape[-1] if 'lora_a' in ports else 0
    for port, array in ports.items():
      map_ = known[scope]
      needed = (*map_.stack, *map_.shape(port, rank=rank))
      if array.shape != needed:
        raise UserError(
          f'{found.path}: {scope}/{port} has shape {array.shape}, but the '
          f'model that the configuration names needs {needed}'
        )
  return [(known[scope], ports) for scope, ports in ports_of.items()]
