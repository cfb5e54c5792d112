"""What was tuned, in the weights: a model that needs no method beside it.

Owns how a linear map's ports become its kernel and bias, and a norm's its bias,
by `models.ports`: x -> ((x · scale_in) (K + A B) + bias + delta_bias) · scale;
and what no weight can hold. Knows no method but by what its file holds; which
tensors a model has, its table in `weights` says.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ptjax import tree
from ptjax.config import UserError
from ptjax.export.maps_from_peft import MODULES
from ptjax.export.prompt import Prompt
from ptjax.weights import families, table

# Whose ports are those of `folded`, and the model's own leaves.
_HELD = ('model', 'lora', 'ia3', 'bitfit', MODULES)
_DELTA = '/delta_bias'
# What a config says of biases that some models of its family have.
_SWITCHES = ('attention_bias', 'mlp_bias')


def check(found: Prompt) -> None:
  """Refuses what no weight can hold, before a model is read for it.

  Raises:
    UserError: with what it holds, and the way out.
  """
  if 'adapters' in found.own:
    raise UserError(
      f'--format=hf: {found.path} holds adapters, in which an activation '
      "stands between two maps, so no weight of the model's own can say them; "
      'use the file here'
    )
  beside = [n for n in tree.flatten(found.own) if n.split('/')[0] not in _HELD]
  if beside:
    raise UserError(
      f'--format=hf writes the weights of a model, and {found.path} changes '
      f'none: it holds {beside[0]}; use --format=peft, or the file here where '
      'PEFT has no such method'
    )


def config_for(config: Any, found: Prompt, *, model: str) -> Any:
  """The config of a model that has each bias which was tuned.

  Args:
    config: of the frozen model.
    model: its name, for messages.

  Raises:
    UserError: no model of its family has them all.
  """
  names = [name.partition('/')[2] for name in tree.flatten(found.own)]
  tuned = [n.removesuffix(_DELTA) for n in names if n.endswith(_DELTA)]
  missing = _without_bias(config, tuned)
  for switch in _SWITCHES:
    if not missing or not hasattr(config, switch):
      continue
    wider = dataclasses.replace(config, **{switch: True})
    left = _without_bias(wider, tuned)
    if len(left) < len(missing):
      config, missing = wider, left
  if missing:
    raise UserError(
      f'--format=hf: {found.path} holds a bias of {missing[0]}, and in the '
      f'files of transformers a model like {model} has no place for one; use '
      'the file here, or train another method, such as lora'
    )
  return config


def _without_bias(config: Any, scopes: Sequence[str]) -> list[str]:
  known = {row.path for row in families.of_config(config).tensors(config)}
  return [scope for scope in scopes if f'{scope}/bias' not in known]


def folded(
  params: Mapping[str, Any],
  ports: Mapping[str, Any],
  rows: Sequence[table.Tensor],
) -> dict[str, Any]:
  """The weights that say alone what these say with ports.

  Args:
    rows: the tensors of the model that is written; a bias that `params` lack
      begins at zero.
  """
  flat = tree.flatten(params)
  stacked = {row.path: bool(row.layers) for row in rows}
  for row in rows:
    if row.path.endswith('/bias') and row.path not in flat:
      flat[row.path] = np.zeros(row.own_shape(), np.float32)
  filled: dict[str, dict[str, np.ndarray]] = {}
  for name, leaf in tree.flatten(ports).items():
    scope, _, port = name.rpartition('/')
    filled.setdefault(scope, {})[port] = np.asarray(leaf, np.float32)
  for scope, own in filled.items():
    kernel, bias = f'{scope}/kernel', f'{scope}/bias'
    if kernel in flat:
      lead = int(stacked[kernel])
      flat[kernel] = _kernel(np.asarray(flat[kernel]), own, lead=lead)
    if bias in flat:
      moved = np.asarray(flat[bias]) + own.get('delta_bias', 0)
      flat[bias] = moved * own.get('scale', 1)
  return tree.unflatten(flat)


def _kernel(
  kernel: np.ndarray, own: Mapping[str, np.ndarray], *, lead: int
) -> np.ndarray:
  """Of [I, *O], with `lead` axes of layers in front."""
  if 'lora_a' in own:
    narrow = own['lora_b']
    both = own['lora_a'] @ narrow.reshape(*narrow.shape[: lead + 1], -1)
    kernel = kernel + both.reshape(kernel.shape)
  if 'scale_in' in own:
    scale = own['scale_in']
    features = kernel.ndim - scale.ndim
    kernel = kernel * scale.reshape(*scale.shape, *[1] * features)
  if 'scale' in own:
    kernel = kernel * np.expand_dims(own['scale'], lead)
  return kernel
