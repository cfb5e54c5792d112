"""A prefix as PEFT has it: prompt_embeddings [P, 2 · N · H · K].

Owns how keys and values of all layers lie in that row, K of layer l in slot 2l
and V in slot 2l + 1, both ways, and the settings that are of this kind. H are
the heads that have keys of their own; keys are after rotary, here as there. The
folder is `export.peft`'s.

Of a decoder-only model alone. PEFT's T5 gets another prefix than it says:
decoder layer l is given slots 4l and 4l + 1, counted around.
"""

import pathlib
from typing import Any

import numpy as np

from ptjax import tree
from ptjax.config import UserError
from ptjax.export.prompt import Prompt
from ptjax.weights import hf, settings

KIND, METHOD = 'PREFIX_TUNING', 'prefix_tuning'
TENSOR = 'prompt_embeddings'
_SCOPE = 'layers/attention'  # of every decoder-only model
_NAMES = tuple(f'{_SCOPE}/{n}' for n in ('prefix_key', 'prefix_value'))


def holds(found: Prompt) -> bool:
  """Whether a prompt is a prefix."""
  return set(found.own) == {METHOD}


def read(
  said: settings.Said, path: pathlib.Path
) -> tuple[dict[str, Any], dict[str, Any]]:
  """(parameters, settings of the method) of an adapter.

  Args:
    path: of its tensors.

  Raises:
    UserError: its sizes are not said, or are not those of the tensor.
  """
  length = said.whole('num_virtual_tokens', None)
  layers, heads, width = (
    said.whole(key, None)
    for key in ('num_layers', 'num_attention_heads', 'token_dim')
  )
  parts = said.whole('num_transformer_submodules', 1)
  said.check(parts == 1, 'num_transformer_submodules', parts, '1')
  said.check(
    width % heads == 0, 'token_dim', width, f'a multiple of its {heads} heads'
  )
  source = hf.Safetensors(path)
  shape = length, 2 * layers * width
  if source.shapes != {TENSOR: shape}:
    held = ', '.join(f'{n} {s}' for n, s in sorted(source.shapes.items())[:3])
    raise UserError(
      f'{path} holds {held or "nothing"}, but by its settings a prefix of '
      f'{length} places for {layers} layers is {TENSOR} {shape} alone'
    )
  flat = np.asarray(source.read(TENSOR, 0, length), np.float32)
  if not np.isfinite(flat).all():
    raise UserError(f'{path} has values that are not finite')
  flat = flat.reshape(length, layers, 2, heads, width // heads)
  key_PxNxHxK, value_PxNxHxK = flat[:, :, 0], flat[:, :, 1]
  both = key_PxNxHxK.transpose(1, 2, 3, 0), value_PxNxHxK.transpose(1, 2, 0, 3)
  own = {METHOD: tree.unflatten(dict(zip(_NAMES, both)))}
  return own, {'name': METHOD, 'length': length, 'targets': []}


def adapter(found: Prompt) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """(tensors, settings that are this kind's own) of an adapter.

  Args:
    found: a prefix without its mlp.

  Raises:
    UserError: it is of another kind of model.
  """
  ports = tree.flatten(found.own[METHOD])
  if set(ports) != set(_NAMES):
    other = next((n for n in ports if n not in _NAMES), 'nothing')
    raise UserError(
      f'--format=peft: {found.path} holds {other}, and a prefix goes to PEFT '
      'for decoder-only models alone, since PEFT gives that of a T5 to the '
      "wrong layers; use it here, by ptjax's own file"
    )
  key_NxHxKxP, value_NxHxPxK = (np.asarray(ports[name]) for name in _NAMES)
  layers, heads, size, length = key_NxHxKxP.shape
  both = key_NxHxKxP.transpose(3, 0, 1, 2), value_NxHxPxK.transpose(2, 0, 1, 3)
  flat = np.stack(both, axis=2).reshape(length, -1).astype(np.float32)
  said = {
    'auto_mapping': None,
    'encoder_hidden_size': heads * size,
    'init_weights': None,
    'modules_to_save': None,
    'num_attention_heads': heads,
    'num_layers': layers,
    'num_transformer_submodules': 1,
    'num_virtual_tokens': length,
    'peft_type': KIND,
    'prefix_projection': False,  # the file holds what it came to
    'revision': None,
    'token_dim': heads * size,
  }
  return {TENSOR: np.ascontiguousarray(flat)}, said
