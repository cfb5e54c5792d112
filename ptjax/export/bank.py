"""A bank: any number of soft prompts of one frozen model in one file.

One safetensors file with a tensor [P, D] a prompt, under its name, and as
metadata a JSON record: the model, and for each prompt the record it had alone.
Lengths may differ.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from ptjax.config import UserError
from ptjax.export import prompt
from ptjax.export.prompt import Prompt


def write(path: pathlib.Path, prompts: Sequence[Prompt]) -> None:
  """Writes soft prompts of one model.

  Raises:
    UserError: two are of different models or widths, or have one name.
  """
  rows = {found.name: found.rows for found in prompts}
  if len(rows) < len(prompts):
    names = [found.name for found in prompts]
    twice = next(n for i, n in enumerate(names) if n in names[:i])
    raise UserError(f'two prompts are called {twice!r}; a bank needs one each')
  same_model(prompts)
  record = {
    'model': next((m for p in prompts if (m := p.record.get('model'))), {}),
    'prompts': {
      found.name: {k: v for k, v in found.record.items() if k != 'model'}
      for found in prompts
    },
  }
  prompt.save(path, rows, {'bank': record})


def open_bank(
  path: pathlib.Path, arrays: dict[str, Any], record: dict[str, Any]
) -> list[Prompt]:
  """The prompts of a file that `export.prompt` has read."""
  of, model = record.get('prompts', {}), record.get('model', {})
  # The file has its tensors by the alphabet, the record as they were given.
  return [
    Prompt(
      name,
      {'prompt': {'encoder': arrays[name]}},
      {**of.get(name, {}), **({'model': model} if model else {})},
      f'{path} ({name})',
    )
    for name in sorted(arrays, key=lambda n: [*of, n].index(n))
  ]


def same_model(prompts: Sequence[Prompt]) -> None:
  """Refuses prompts of different models, methods, templates or widths."""
  for what, of in (
    ('frozen model', lambda p: p.record.get('model', {}).get('fingerprint')),
    ('method', lambda p: p.record.get('method', {}).get('name')),
    ('method.alpha', _alpha),
    ('template', lambda p: p.record.get('method', {}).get('template', '')),
    ('width', lambda p: p.rows.shape[1] if _soft(p) else None),
  ):
    known = {p.path: of(p) for p in prompts if of(p) is not None}
    if len(set(known.values())) > 1:
      raise UserError(f'the prompts are not of one {what}: {said(known)}')


def same_length(prompts: Sequence[Prompt]) -> None:
  """Refuses soft prompts of different lengths."""
  known = {p.path: p.rows.shape[0] for p in prompts if _soft(p)}
  if len(set(known.values())) > 1:
    raise UserError(
      f'an ensemble needs prompts of one length, but these have {said(known)} '
      'virtual tokens'
    )


def _alpha(found: Prompt) -> float | None:
  """Of LoRA: what no shape says of how its maps are read."""
  method = found.record.get('method', {})
  return method.get('alpha') if method.get('name') == 'lora' else None


def _soft(found: Prompt) -> bool:
  return set(found.own) == {'prompt'}


def said(known: dict[str, Any]) -> str:
  """'A 5, B 20', each path with its value."""
  return ', '.join(f'{path} {str(value)[:16]}' for path, value in known.items())
