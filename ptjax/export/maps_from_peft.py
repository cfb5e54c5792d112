"""PEFT's LoRA and IA3 read: tensors and settings -> parameters of ours.

Owns which settings change the result, and which tensor is which array. A map's
shape is the model's to say, so what `read` finds goes by PEFT's names until
`placed` knows the model. The folder is `export.peft`'s.

  base_model.model.MAP.lora_A.weight [R, I], .lora_B.weight [O, R]
  base_model.model.MAP.ia3_l         [O, 1], or [1, I] of a feedforward map
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ptjax import tree
from ptjax.config import UserError
from ptjax.export import maps
from ptjax.export.prompt import Prompt
from ptjax.weights import settings, table

KINDS = {'LORA': 'lora', 'IA3': 'ia3'}  # peft_type -> the method
MODULES = 'modules'  # where `read` leaves arrays by PEFT's names

Arrays = dict[str, dict[str, np.ndarray]]  # {map: {port: array}}

# What says nothing of the result, or what the tensors say too.
_IGNORED = (
  'exclude_modules',
  'fan_in_fan_out',  # PEFT itself goes by the kind of map
  'feedforward_modules',
  'init_ia3_weights',
  'layers_pattern',
  'layers_to_transform',
  'lora_dropout',
  'megatron_core',
  'qalora_group_size',  # of use_qalora
)
# Starts of A and B that leave the frozen weights as they are.
_STARTS = (True, False, 'gaussian', 'eva', 'orthogonal')
_TENSOR = re.compile(
  r'base_model\.model\.(?P<map>.+)\.(?P<kind>lora_[AB]\.weight|ia3_l)'
)
_PORTS = {
  'lora': {'lora_A.weight': 'lora_a', 'lora_B.weight': 'lora_b'},
  'ia3': {'ia3_l': 'scale'},
}
_INNER = 'wo'  # what a map is called that is scaled on what goes in
_MERGE = (
  'merge it by PEFT (merge_and_unload) and give the saved model as model=FOLDER'
)


def read(
  kind: str, said: settings.Said, source: table.Source, *, folder: str
) -> tuple[dict[str, Arrays], dict[str, Any]]:
  """(what is tuned, by PEFT's names; the method's settings).

  Args:
    kind: one of KINDS.
    said: adapter_config.json; what is understood is taken out of it.

  Raises:
    UserError: tensors that are not of such an adapter.
  """
  method = {'name': KINDS[kind]}
  if kind == 'LORA':
    method |= _low_rank(said)
  targets = said.values.pop('target_modules', None)
  for key in _IGNORED:
    said.values.pop(key, None)
  found = _arrays(source, KINDS[kind], folder)
  if isinstance(targets, list):  # other forms are PEFT's to resolve
    _check_targets(found, targets, folder)
  for name, ports in found.items() if kind == 'LORA' else ():
    _check_rank(name, ports, method['rank'], folder)
  return {MODULES: found}, method


def unsupported(kind: str, left: str, *, folder: str) -> UserError:
  """For settings that stay, 'use_dora=True, …': they change the result."""
  return UserError(
    f'{folder}: its adapter_config.json says {left}, and {kind} is read only '
    f'without; {_MERGE}'
  )


def _low_rank(said: settings.Said) -> dict[str, Any]:
  """Rank and alpha; rsLoRA divides by the root of the rank instead."""
  rank, alpha = said.whole('r', 8), said.positive('lora_alpha', 8)
  if said.flag('use_rslora', False):
    alpha *= math.sqrt(rank)
  for key, harmless in (('bias', ('none',)), ('init_lora_weights', _STARTS)):
    if said.values.get(key) in harmless:
      del said.values[key]
  return {'rank': rank, 'alpha': alpha}


def _arrays(source: table.Source, method: str, folder: str) -> Arrays:
  """float32, as ours lie; O in one axis."""
  out: Arrays = {}
  for name, shape in source.shapes.items():
    if name.endswith('.base_layer.weight'):
      continue  # the head that a map of it stands beside, as it was: frozen
    match = _TENSOR.fullmatch(name)
    port = match and _PORTS[method].get(match['kind'])
    if not port or len(shape) != 2 or not all(shape):
      raise UserError(
        f'{folder}: holds {name} of shape {shape}, which {method} does not '
        f'tune here; {_MERGE}'
      )
    array = np.asarray(source.read(name, 0, shape[0]), np.float32)
    if not np.isfinite(array).all():
      raise UserError(f'{folder}: {name} has values that are not finite')
    if port == 'scale':
      port, array = 'scale_in' if shape[0] == 1 else port, array.ravel()
    out.setdefault(match['map'], {})[port] = array.T
  if not out:
    raise UserError(f'{folder}: its file holds no tensors; save it again')
  return out


def _check_rank(
  name: str, ports: dict[str, np.ndarray], rank: int, folder: str
) -> None:
  shapes = [ports[p].shape for p in ('lora_a', 'lora_b') if p in ports]
  if len(shapes) < 2 or {shapes[0][1], shapes[1][0]} != {rank}:
    raise UserError(
      f'{folder}: {name} has A and B of {shapes}, but adapter_config.json says '
      f'r={rank}; one file is of another adapter'
    )


def _check_targets(
  found: Iterable[str], targets: Sequence[Any], folder: str
) -> None:
  for name in found:
    if not any(maps.ends_in(name, str(target)) for target in targets):
      raise UserError(
        f'{folder}: holds {name}, but adapter_config.json says target_modules='
        f'{targets}; one file is of another adapter'
      )


def placed(
  found: Prompt, rows: Sequence[table.Tensor], *, model: str
) -> Prompt:
  """What `read` found, as parameters of the model with these tensors.

  A layer whose map has no arrays gets those that do nothing. What is ours
  already comes back as it is.

  Raises:
    UserError: the model has no such map, or one of other sizes.
  """
  if MODULES not in found.own:
    return found
  method = found.record['method']
  places = {
    module: (map_, layer)
    for map_ in maps.of(rows)
    for layer, module in enumerate(map_.modules)
  }
  fill = np.ones if method['name'] == 'ia3' else np.zeros
  out: dict[str, np.ndarray] = {}
  scopes: list[str] = []
  for module, ports in found.own[MODULES].items():
    if module not in places:
      raise UserError(
        f'{_named(found)} tunes {module}, which {model} does not have, whose '
        f"maps are called as {next(iter(places))}; name the adapter's own model"
      )
    map_, layer = places[module]
    _check_sizes(found, module, ports, map_, model)
    _check_side(found, module, ports, map_)
    scopes.append(map_.scope)
    for port, array in ports.items():
      shape = map_.shape(port, rank=method.get('rank', 0))
      whole = out.setdefault(
        f'{map_.scope}/{port}', fill((*map_.stack, *shape), np.float32)
      )
      whole[layer if map_.stack else ...] = array.reshape(shape)
  method = method | {'targets': list(dict.fromkeys(scopes))}
  return dataclasses.replace(
    found,
    own={method['name']: tree.unflatten(out)},
    record=found.record | {'method': method},
  )


def _check_sizes(
  found: Prompt,
  module: str,
  ports: dict[str, np.ndarray],
  map_: maps.Map,
  model: str,
) -> None:
  sides = (
    ('takes', ports.get('lora_a', ports.get('scale_in')), map_.inputs),
    ('gives', ports.get('lora_b', ports.get('scale')), map_.outputs),
  )
  odd = [
    f'{verb} {size} features there and {here} here'
    for verb, array, here in sides
    if array is not None
    and (size := array.shape[0 if verb == 'takes' else -1]) != here
  ]
  if odd:
    raise UserError(
      f'{_named(found)} is of another width than {model}: {module} '
      f"{', '.join(odd)}; name the adapter's own model"
    )


def _check_side(
  found: Prompt, module: str, ports: dict[str, np.ndarray], map_: maps.Map
) -> None:
  """IA3 by our rule scales what goes into the last map of an mlp alone."""
  inner = map_.scope.rpartition('/')[2] == _INNER
  if 'scale_in' in ports and not inner or 'scale' in ports and inner:
    side = 'comes out of' if inner else 'goes into'
    raise UserError(f'{found.path} scales what {side} {module}; {_MERGE}')


def _named(found: Prompt) -> str:
  of = found.record.get('base', {}).get('name')
  return f'the adapter {found.path}' + (f' (of {of})' if of else '')
