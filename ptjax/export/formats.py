"""`--mode=export`: prompts into the files of others, by the format's name.

Owns which formats there are and what each can hold. A format's layout stands
in its own file.
"""

import pathlib
from collections.abc import Sequence

from ptjax.config import UserError, one_of
from ptjax.export import bank, maps_to_peft, npy, peft, prefix, serving
from ptjax.export.prompt import Prompt

# bank: any number of prompts in a file; npy: a bare array [P, D]; t5x: the
# folder that google-research/prompt-tuning reads; peft: an adapter's folder;
# tensorrt_llm: a table of prompts; vllm: a prompt as a tensor, or requests.
# hf is a model's folder, of which a prompt is none: see ptjax/convert.py.
FORMATS = ('bank', 'npy', 't5x', 'peft', 'tensorrt_llm', 'vllm', 'hf')
_SEVERAL = ('bank', 'tensorrt_llm')


def check(prompts: Sequence[Prompt], *, form: str) -> None:
  """Refuses what a format cannot hold, before a model is read for it.

  Raises:
    UserError: no such format, or it cannot hold these prompts.
  """
  one_of('--format', form, FORMATS)
  if len(prompts) != 1 and form not in _SEVERAL:
    raise UserError(
      f'--format={form} holds one prompt, but --prompt names {len(prompts)}; '
      'name one, or use --format=bank'
    )
  own = maps_to_peft.holds(prompts[0]) or prefix.holds(prompts[0])
  if form == 'hf' or form == 'peft' and own:
    return
  for found in prompts:
    if form != 'bank':
      check_front(found)
    found.check_soft()


def check_front(found: Prompt) -> None:
  """Refuses virtual tokens that do not simply stand in front."""
  template = found.record.get('method', {}).get('template', '')
  if template:
    raise UserError(
      f'{found.path} stands around its input ({template}), which the files of '
      'others cannot say; use it here, or --format=bank'
    )


def write(
  prompts: Sequence[Prompt],
  target: str,
  *,
  form: str,
  base: peft.Base | None = None,
) -> pathlib.Path:
  """Writes soft prompts; returns the path.

  Args:
    base: the model that `peft` writes them for.

  Raises:
    UserError: as `check`, or the target's name says another format.
  """
  check(prompts, form=form)
  path = pathlib.Path(target).expanduser()
  if form == 'bank':
    if path.suffix != '.safetensors':
      raise UserError(
        f'--output={target}: a bank is a .safetensors file; name it so'
      )
    bank.write(path, prompts)
    return path
  if form == 'tensorrt_llm':
    return serving.write_table(path, prompts)
  (found,) = prompts
  if form == 'vllm':
    return serving.write_embeds(path, found)
  if form == 'peft':
    method = found.record.get('method', {})
    return peft.write(path, found.rows, base, method=method)
  if form == 'npy':
    return npy.write(path, found.rows)
  return npy.write_step(path, found.rows, step=found.record.get('step', 0))
