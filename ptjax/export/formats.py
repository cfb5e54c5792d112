"""`--mode=export`: prompts into the files of others, by the format's name.

Owns which formats there are and what each can hold. A format's layout stands
in its own file.
"""

import pathlib
from collections.abc import Sequence

from ptjax.config import UserError, one_of
from ptjax.export import bank, npy
from ptjax.export.prompt import Prompt

# bank: any number of prompts in a file; npy: a bare array [P, D]; t5x: the
# folder that google-research/prompt-tuning reads.
FORMATS = ('bank', 'npy', 't5x')


def write(prompts: Sequence[Prompt], target: str, *, form: str) -> pathlib.Path:
  """Writes soft prompts; returns the path.

  Raises:
    UserError: no such format, or it cannot hold these prompts.
  """
  one_of('--format', form, FORMATS)
  path = pathlib.Path(target).expanduser()
  if form == 'bank':
    if path.suffix != '.safetensors':
      raise UserError(
        f'--output={target}: a bank is a .safetensors file; name it so'
      )
    bank.write(path, prompts)
    return path
  if len(prompts) != 1:
    raise UserError(
      f'--format={form} holds one prompt, but --prompt names {len(prompts)}; '
      'name one, or use --format=bank'
    )
  (found,) = prompts
  if form == 'npy':
    return npy.write(path, found.rows)
  return npy.write_step(path, found.rows, step=found.record.get('step', 0))
