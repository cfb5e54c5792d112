"""Adapters as PEFT has them: adapter_config.json and adapter_model.safetensors.

Owns that folder for soft prompts, both ways, by PEFT 0.21.2; which of its
adapters are none; and whether one is of the model at hand. What others hold
stands in `maps_from_peft` (LoRA, IA3), `prefix` and `multitask`. The file names
no model but in words, so what can be compared is: kind, width, layers, heads
and the base model's name.

  prompt_embeddings [S·P, D], S = 2 where PEFT trained a T5: rows from P on are
  for a decoder that never reads them, as only [:, :P] goes to the encoder.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy

from ptjax import files
from ptjax.config import UserError
from ptjax.export import maps_from_peft, multitask, prefix
from ptjax.export.prompt import Prompt
from ptjax.weights import hf, settings

CONFIG, MODEL, PICKLE = (
  'adapter_config.json',
  'adapter_model.safetensors',
  'adapter_model.bin',
)
FILES = (CONFIG, MODEL, PICKLE)
VERSION = '0.21.2'  # of PEFT, which writes its own into a config
_TENSOR = 'prompt_embeddings'
_KINDS = {'SEQ_2_SEQ_LM': 'encoder-decoder', 'CAUSAL_LM': 'decoder-only'}

# A P-tuning file holds what its encoder made of its parameters: a soft prompt.
_SOFT = ('PROMPT_TUNING', 'P_TUNING')
_NETWORKS = {'lstm': 'LSTM', 'mlp': 'MLP'}  # which is not in the file
_READ = (*_SOFT, prefix.KIND, *maps_from_peft.KINDS, multitask.KIND)
# Their numbers are in the weights as soon as PEFT has merged them.
_MERGED = ('ADALORA', 'LOHA', 'LOKR', 'OFT', 'BOFT', 'VERA')

# What says nothing of the result: how the prompt began, or was made.
_IGNORED = {
  'auto_mapping',
  'encoder_dropout',
  'encoder_hidden_size',
  'encoder_num_layers',
  'encoder_reparameterization_type',
  'inference_mode',
  'init_weights',
  'num_ranks',  # shapes say it, and
  'num_tasks',
  'peft_version',
  'prefix_projection',
  'prompt_tuning_init',
  'prompt_tuning_init_state_dict_path',
  'prompt_tuning_init_task',
  'prompt_tuning_init_text',
  'revision',
  'tokenizer_kwargs',
  'tokenizer_name_or_path',
}

_COMPARED = ('width', 'layers', 'heads')


@dataclasses.dataclass(frozen=True)
class Base:
  """What an adapter and a model are compared by.

  Attributes:
    name: the base model, as its user calls it; '' = not said.
    task_type: PEFT's word for the kind, one of `_KINDS`.
    width, layers, heads: D, and those of the (encoder's) stack; 0 = not said.
    folder: of the model's files, which may have gone by that name; '' = none.
  """

  name: str
  task_type: str
  width: int
  layers: int
  heads: int
  folder: str = ''


def is_adapter(path: pathlib.Path) -> bool:
  """Whether a path is the folder of an adapter, or a file of one."""
  if path.name in FILES:
    return path.is_file()
  return any((path / name).is_file() for name in FILES)


def read(path: pathlib.Path) -> Prompt:
  """What an adapter's folder holds.

  Its record has `base`, for `misfit`; values are as in the file, as float32.

  Raises:
    UserError: it is none of these, a pickle, or not as PEFT writes it.
  """
  folder = path if path.is_dir() else path.parent
  if path.name == PICKLE or not (folder / MODEL).is_file():
    raise UserError(_no_model(folder))
  values = _config(folder / CONFIG)
  said = settings.Said(values, str(folder / CONFIG))
  kind, task_type = said.text('peft_type'), said.text('task_type')
  wired = task_type != 'SEQ_2_SEQ_LM'
  if kind not in _READ or kind == prefix.KIND and not wired:
    raise UserError(_no_soft_prompt(folder, kind, task_type))
  if task_type not in _KINDS:
    raise UserError(
      f'{folder}: an adapter for task_type {task_type or None}, but one is '
      f'read of {" and ".join(_KINDS)}; train one of these'
    )
  if kind == prefix.KIND:
    return _prefix(folder, said)
  base = Base(
    name=said.text('base_model_name_or_path'),
    task_type=task_type,
    width=said.whole('token_dim', 0, least=0),
    layers=said.whole('num_layers', 0, least=0),
    heads=said.whole('num_attention_heads', 0, least=0),
  )
  name = folder.resolve().name
  if kind in maps_from_peft.KINDS:
    return Prompt(name, *_maps(folder, said, kind, base), str(folder))
  length = said.whole('num_virtual_tokens', None)
  # PEFT's own rule where it is null.
  two = 2 if task_type == 'SEQ_2_SEQ_LM' else 1
  parts = said.whole('num_transformer_submodules', two)
  said.check(
    parts <= two, 'num_transformer_submodules', parts, f'at most {two}'
  )
  if left := _unknown(values):
    raise _not_known(folder, left)
  if kind == multitask.KIND:
    own = _multitask(folder, length=length, parts=parts)
    record = {'method': {'name': multitask.METHOD}}
    return Prompt(
      name, own, record | {'base': dataclasses.asdict(base)}, str(folder)
    )
  rows = _rows(folder / MODEL, length=length, parts=parts, width=base.width)
  base = dataclasses.replace(base, width=rows.shape[1])
  record = {'method': {'name': 'soft_prompt'}, 'base': dataclasses.asdict(base)}
  return Prompt(name, {'prompt': {'encoder': rows}}, record, str(folder))


def _maps(
  folder: pathlib.Path, said: settings.Said, kind: str, base: Base
) -> tuple[Any, Any]:
  """(arrays by PEFT's names, record) of a LoRA or IA3."""
  source = hf.Safetensors(folder / MODEL)
  own, method = maps_from_peft.read(kind, said, source, folder=str(folder))
  if left := _unknown(said.values):
    raise maps_from_peft.unsupported(kind, left, folder=str(folder))
  return own, {'method': method, 'base': dataclasses.asdict(base)}


def _multitask(
  folder: pathlib.Path, *, length: int, parts: int
) -> dict[str, Any]:
  if parts > 1:
    raise UserError(
      f'{folder}: num_transformer_submodules={parts}, so half of its rows are '
      'a prompt of the decoder, which PEFT reads in training and not in '
      'generate; train it with num_transformer_submodules=1'
    )
  own = multitask.read(hf.Safetensors(folder / MODEL), folder=str(folder))
  found = len(own[multitask.OWN]['prompt'])
  if found != length:
    raise UserError(
      f'{folder}: {found} virtual tokens, but {CONFIG} says {length}; one of '
      'them is of another adapter'
    )
  return own


def write_multitask(
  path: pathlib.Path, found: Prompt, base: Base
) -> pathlib.Path:
  """Writes the prompts of many tasks as the one adapter that they are."""
  tensors, said = multitask.adapter(found)
  # A T5's for the encoder alone.
  said |= {'num_transformer_submodules': 1, 'modules_to_save': None}
  said |= {'num_attention_heads': base.heads, 'num_layers': base.layers}
  return save(path, tensors, said, base=base)


def _prefix(folder: pathlib.Path, said: settings.Said) -> Prompt:
  """A prefix, whose width and heads are those of its keys, not the model's."""
  base = Base(
    name=said.text('base_model_name_or_path'),
    task_type='CAUSAL_LM',
    width=0,
    layers=said.values.get('num_layers') or 0,
    heads=0,
  )
  own, method = prefix.read(said, folder / MODEL)
  if left := _unknown(said.values):
    raise _not_known(folder, left)
  record = {'method': method, 'base': dataclasses.asdict(base)}
  return Prompt(folder.resolve().name, own, record, str(folder))


def write(
  path: pathlib.Path,
  rows_PxD: Any,
  base: Base,
  *,
  method: Mapping[str, Any] = MappingProxyType({}),
) -> pathlib.Path:
  """Writes a folder that PEFT loads, and would write byte for byte.

  A T5's prompt is written with num_transformer_submodules=1, [P, D]: without
  the rows that nothing reads.

  Args:
    method: settings of the method; of p_tuning also its network is named.
  """
  rows = np.ascontiguousarray(rows_PxD, np.float32)
  said = {
    'auto_mapping': None,
    'modules_to_save': None,
    'num_attention_heads': base.heads,
    'num_layers': base.layers,
    'num_transformer_submodules': 1,
    'num_virtual_tokens': rows.shape[0],
    'revision': None,
    'token_dim': rows.shape[1],
  }
  if method.get('name') == 'p_tuning':
    said |= {
      'encoder_dropout': 0.0,
      'encoder_hidden_size': method.get('hidden') or rows.shape[1],
      'encoder_num_layers': 2,
      'encoder_reparameterization_type': _NETWORKS.get(method.get('encoder')),
      'peft_type': 'P_TUNING',
    }
  else:
    said |= {
      'peft_type': 'PROMPT_TUNING',
      'prompt_tuning_init': 'RANDOM',  # else it would ask for a tokenizer
      'prompt_tuning_init_text': None,
      'tokenizer_kwargs': None,
      'tokenizer_name_or_path': None,
    }
  return save(path, {_TENSOR: rows}, said, base=base)


def save(
  path: pathlib.Path,
  tensors: dict[str, np.ndarray],
  said: dict[str, Any],
  *,
  base: Base,
) -> pathlib.Path:
  """Writes an adapter's folder, its settings as PEFT orders them."""
  values = said | {
    'base_model_name_or_path': base.name,
    'inference_mode': True,
    'peft_version': VERSION,
    'task_type': base.task_type,
  }
  with files.replaced(path / MODEL) as aside:
    # As bytes: a full disk is then an OSError, as of any other file.
    metadata = {'format': 'pt'}
    aside.write_bytes(safetensors.numpy.save(tensors, metadata))
  with files.replaced(path / CONFIG) as aside:
    aside.write_text(json.dumps(values, indent=2, sort_keys=True))
  return path


def misfit(found: Prompt, model: Base, *, strict: bool = True) -> str:
  """Refuses an adapter of another model; '' for what is no adapter.

  Args:
    strict: False lets it pass and returns the sentence, to be said loudly.
  """
  if 'base' not in found.record:
    return ''
  try:
    theirs = Base(**found.record['base'])
    kinds = [_KINDS[b.task_type] for b in (theirs, model)]
  except (TypeError, KeyError):
    raise UserError(
      f"{found.path}: its record's 'base' is not what an adapter said of its "
      'model; export it again'
    ) from None
  compared = [(n, getattr(theirs, n), getattr(model, n)) for n in _COMPARED]
  compared += [('kind', *kinds)]
  odd = [
    f'{name} {there} against {here}'
    for name, there, here in compared
    if there not in (0, here)
  ]
  if not odd and _same_name(theirs.name, model):
    return ''
  sentence = (
    f'the adapter {found.path} is of {theirs.name or "another model"}, not of '
    f'{model.name}' + (f' ({", ".join(odd)})' if odd else '')
  )
  if strict:
    raise UserError(f'{sentence}; name its model, or set any_model=true')
  return sentence


def _same_name(theirs: str, model: Base) -> bool:
  """A folder's last word is enough: models are moved and copied."""
  if not theirs or theirs in (model.name, model.folder):
    return True
  last = pathlib.PurePath(theirs).name
  return last in (pathlib.PurePath(n).name for n in (model.name, model.folder))


def _no_model(folder: pathlib.Path) -> str:
  if (folder / PICKLE).is_file():
    return (
      f'{folder / PICKLE} is a pickle, which could run any code, and is not '
      f'read; load it by PEFT and save it again, which writes {MODEL}'
    )
  return (
    f'{folder} has no {MODEL}, which an adapter of PEFT has; fetch it again'
  )


def _no_soft_prompt(folder: pathlib.Path, kind: str, task_type: str) -> str:
  if kind == 'PREFIX_TUNING' and task_type == 'SEQ_2_SEQ_LM':
    return (
      f'{folder}: a prefix of an encoder-decoder model is refused, since PEFT '
      'wires it wrongly: decoder layer l is given slots 4l and 4l+1 of the '
      'keys and values, counted around, so half of them are never read or '
      'trained; train it anew here'
    )
  found = f'{folder}: an adapter of peft_type {kind or None}'
  if kind in _MERGED:
    return (
      f'{found} is no prompt; merge it by PEFT (merge_and_unload) and give the '
      'saved model as model=FOLDER'
    )
  return f'{found} is not read, only {", ".join(_READ)} are'


def _config(path: pathlib.Path) -> dict[str, Any]:
  try:
    values = json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError:
    raise UserError(
      f'{path.parent} has no {path.name}, which says what {MODEL} is; fetch it '
      'again'
    ) from None
  except (ValueError, RecursionError) as error:
    raise UserError(f'{path} is not readable as JSON ({error})') from None
  if not isinstance(values, dict):
    raise UserError(f'{path}: expected an object of settings')
  return values


def _unknown(values: dict[str, Any]) -> str:
  """What is left and says something; null and false say nothing."""
  left = {k: v for k, v in values.items() if k not in _IGNORED}
  return ', '.join(f'{k}={v!r}' for k, v in sorted(left.items()) if v)


def _not_known(folder: pathlib.Path, left: str) -> UserError:
  return UserError(
    f'{folder / CONFIG} says {left}, which is not known here; if it does not '
    'change the result, remove it from the file'
  )


def _rows(
  path: pathlib.Path, *, length: int, parts: int, width: int
) -> np.ndarray:
  """The first `length` rows of the one tensor there is, float32."""
  source = hf.Safetensors(path)
  if set(source.shapes) != {_TENSOR}:
    raise UserError(
      f'{path} holds {", ".join(sorted(source.shapes)[:3]) or "nothing"}, but '
      f"a soft prompt's file has {_TENSOR} alone; it is no adapter of one"
    )
  shape = source.shapes[_TENSOR]
  if len(shape) != 2 or shape[0] != parts * length or not shape[1]:
    raise UserError(
      f'{path}: {_TENSOR} has shape {shape}, but {CONFIG} says {parts} · '
      f'{length} virtual tokens; one of them is of another adapter'
    )
  if width not in (0, shape[1]):
    raise UserError(
      f'{path}: {_TENSOR} has {shape[1]} features, but {CONFIG} says token_dim '
      f'{width}; one of them is of another adapter'
    )
  rows = np.asarray(source.read(_TENSOR, 0, length), np.float32)
  if not np.isfinite(rows).all():
    raise UserError(f'{path} has values that are not finite')
  return rows
