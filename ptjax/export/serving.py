"""Soft prompts as TensorRT-LLM and vLLM take them with a decoder-only model.

Owns those two layouts; writes them, and reads neither.

TensorRT-LLM, `--prompt_table_path`: one .npy array [tasks, P, D]; a request
names its task, and ids from the vocabulary's size upward are the task's rows,
in order. A shorter prompt is filled up behind with rows of zeros, which a
request must not name. vLLM, `prompt_embeds`: all that a request's prompt is,
[length, D], a file of torch.save, in base64 over HTTP; what a virtual token or
a piece looks like makes no difference there.
"""

import base64
import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ptjax import files
from ptjax.config import UserError
from ptjax.export import bank, torch_file
from ptjax.export.prompt import Prompt


def write_table(
  path: str | os.PathLike, prompts: Sequence[Prompt]
) -> pathlib.Path:
  """Writes float32 [tasks, P, D] for TensorRT-LLM; returns the path.

  Raises:
    UserError: prompts of several models or widths.
  """
  bank.same_model(prompts)
  rows = [found.rows for found in prompts]
  longest = max(len(rows_PxD) for rows_PxD in rows)
  table_MxPxD = np.zeros((len(rows), longest, rows[0].shape[1]), np.float32)
  for task_PxD, rows_PxD in zip(table_MxPxD, rows):
    task_PxD[: len(rows_PxD)] = rows_PxD
  path = pathlib.Path(path)
  with files.replaced(path) as aside, open(aside, 'wb') as file:
    np.save(file, table_MxPxD, allow_pickle=False)
  return path


def tasks(prompts: Sequence[Prompt]) -> str:
  """'0 cb (5 virtual tokens), 1 rte (20)', as a request names them."""
  said = [f'{i} {p.name} ({len(p.rows)})' for i, p in enumerate(prompts)]
  said[0] = said[0][:-1] + ' virtual tokens)'
  return ', '.join(said)


def write_embeds(path: str | os.PathLike, found: Prompt) -> pathlib.Path:
  """Writes a prompt's rows, float32 [P, D], as the file of a tensor."""
  path = pathlib.Path(path)
  if path.suffix != '.pt':
    raise UserError(
      f'--output={path}: the rows of a prompt for vLLM are a .pt file, named '
      'so; for whole requests give --input=FILE.jsonl'
    )
  return torch_file.write(path, found.rows)


def base64_of(embeds_LxD: Any) -> str:
  """A request's `prompt_embeds`."""
  file = io.BytesIO()
  torch_file.dump(embeds_LxD, file)
  return base64.b64encode(file.getvalue()).decode()
