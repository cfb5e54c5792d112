"""ptjax from Python: load a model, train a prompt, generate, score.

Four functions over the same parts as the command line.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from ptjax import config as config_lib
from ptjax import mirror, serve, workdir
from ptjax import train as train_lib
from ptjax.config import UserError
from ptjax.export import names


def _refuse_late(config: ConfigDict) -> None:
  """jax reads its flags once, before this file could set them."""
  if config.deterministic:
    raise UserError(
      'deterministic=True works from the command line only; from Python set '
      'XLA_FLAGS=--xla_gpu_deterministic_ops=true before jax is imported'
    )


class Model:
  """A frozen model, with prompts or without; see `load`."""

  def __init__(self, config: ConfigDict, prompt: str):
    _refuse_late(config)
    self.config = config
    self.server = serve.Server(config, names.find(prompt) if prompt else [])


def load(
  name: str = 'miniature', *, prompt: str = '', **settings: Any
) -> Model:
  """A frozen model by folder or hub name.

  Args:
    name: 'miniature', a folder, also in a bucket (gs://), or a hub name.
    prompt: a prompt file, a bank or the folder of a run, or several joined
      by commas; '' for the model alone.
    **settings: keys of the configuration, such as dtype='bfloat16'.

  Raises:
    UserError: with the way out.
  """
  settings = {'model': name, **settings}
  return Model(config_lib.update(config_lib.default(), settings), prompt)


def train(
  config: ConfigDict | None = None, *, folder: str = '', **settings: Any
) -> dict[str, Any]:
  """Trains prompts; returns what results.json holds.

  Args:
    config: from a file of `configs/`; None for the paper's setting, or the
      embedded miniature's own.
    folder: of the run, also in a bucket, gs://; '' for a dated one under
      runs/.
    **settings: keys of the configuration; those of a group by their full
      name, as in **{'train.steps': 100}.
  """
  if config is None:
    config = config_lib.default()
    if settings.get('model', config.model) == 'miniature':
      name = settings.get('method.name', config.method.name)
      config_lib.miniature(config, method=name)
  config = config_lib.update(config.copy_and_resolve_references(), settings)
  _refuse_late(config)
  folder = folder or str(workdir.fresh('train', root=pathlib.Path('runs')))
  with mirror.at('folder', folder) as path:
    return train_lib.run(config, path)


def generate(
  model: Model, inputs: Sequence[str], *, prompts: Sequence[str] = ()
) -> list[str]:
  """The model's answer to each input; sampled if its temperature says so.

  Args:
    prompts: for each input the name of its prompt, or '' for none, where the
      model was loaded with several.
  """
  rows = [{'inputs': text} for text in _many('inputs', inputs)]
  answers = model.server.predict(_named(rows, prompts))
  return [answer['prediction'] for answer in answers]


def score(
  model: Model,
  inputs: Sequence[str],
  targets: Sequence[str],
  *,
  prompts: Sequence[str] = (),
) -> list[float]:
  """Log-probability of each target and EOS, in nats; `prompts` as above."""
  inputs, targets = _many('inputs', inputs), _many('targets', targets)
  if len(inputs) != len(targets):
    raise UserError(
      f'{len(inputs)} inputs and {len(targets)} targets must be equally many'
    )
  rows = [{'inputs': i, 'targets': t} for i, t in zip(inputs, targets)]
  answers = model.server.score(_named(rows, prompts))
  return [answer['log_prob'] for answer in answers]


def _named(rows: list[serve.Row], prompts: Sequence[str]) -> list[serve.Row]:
  if not prompts:
    return rows
  if len(_many('prompts', prompts)) != len(rows):
    raise UserError(
      f'{len(rows)} inputs and {len(prompts)} prompts must be equally many'
    )
  return [{**row, 'prompt': name} for row, name in zip(rows, prompts)]


def _many(name: str, texts: Sequence[str]) -> list[str]:
  if isinstance(texts, str):  # else each letter would be an input
    raise UserError(f'{name}={texts!r} must be a list of texts')
  return list(texts)
