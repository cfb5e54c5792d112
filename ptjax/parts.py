"""What a run is made of: config -> model, tokenizer, method, jitted functions.

Built once and shared by every task, so that the frozen weights are held once
and a step is compiled once for each bucket of lengths. Knows no task.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ptjax import optim, step, tree
from ptjax.config import UserError, one_of
from ptjax.data import tokenizer
from ptjax.export import prompt
from ptjax.methods import base
from ptjax.predict import sample
from ptjax.tuned import TunedModel
from ptjax.weights import load

DTYPES = ('auto', 'float32', 'bfloat16')


@dataclasses.dataclass(frozen=True)
class Parts:
  """The loaded model, its tokenizer, and what is done with them."""

  config: ConfigDict
  loaded: load.Loaded
  tokenizer: tokenizer.Tokenizer
  tuned_model: TunedModel

  @functools.cached_property
  def tx(self) -> Any:
    return optim.make(self.config.optimizer, steps=self.config.train.steps)

  @functools.cached_property
  def train_step(self) -> Any:
    train = self.config.train
    options = step.StepOptions(
      accumulate=train.accumulate,
      dropout=train.dropout > 0,
      z_loss=train.z_loss,
    )
    return step.make_train_step(self.tuned_model, self.tx, options=options)

  @functools.cached_property
  def generate(self) -> Any:
    return step.make_generate(self.tuned_model, sampler=sampler(self.config))

  @functools.cached_property
  def choices(self) -> Any:
    return jax.jit(self.tuned_model.choices)

  def init(self, *, labels: Sequence[str] = (), seed: int) -> tuple[Any, Any]:
    """(tuned, frozen) at step 0, for a task with these label words."""
    method = self.config.method
    start = {}
    if method.init == 'labels':
      start['label_ids'] = [self.tokenizer.encode(word) for word in labels]
    if method.init == 'text':
      start['text_ids'] = self.tokenizer.encode(method.text)
    if method.init == 'file':
      found, _ = prompt.read(method.file)
      start['prompt_PxD'] = found['prompt']['encoder']
    return self.tuned_model.init(
      jax.random.key(seed),
      self.loaded.params,
      tune=tuple(self.config.tune),
      **start,
    )

  def of_method(self, settings: Any) -> 'Parts':
    """The same model under another method; itself, if that is its own."""
    method = base.make(settings)
    if method == self.tuned_model.method:
      return self
    config = self.config.copy_and_resolve_references()
    config.method = settings
    tuned_model = TunedModel(self.tuned_model.model, method)
    return dataclasses.replace(self, config=config, tuned_model=tuned_model)

  def place(self, own: Any) -> tuple[Any, Any]:
    """(tuned, frozen) with what a prompt file holds.

    Raises:
      UserError: its width, or a name, is not the model's.
    """
    held = tree.flatten(own)
    model = tree.flatten({'model': self.loaded.params})
    width = self.loaded.config.d_model
    for name, array in held.items():
      shape = model[name].shape if name in model else (len(array), width)
      if name.startswith('model/') and name not in model:
        raise UserError(f'{self.loaded.name} has no parameter {name[6:]!r}')
      if array.shape != shape:
        raise UserError(
          f'{name} of the prompt has shape {array.shape}, but '
          f'{self.loaded.name} needs {shape}'
        )
    rest = {name: leaf for name, leaf in model.items() if name not in held}
    tuned = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), own)
    return tuned, tree.unflatten(rest)


def build(config: ConfigDict) -> Parts:
  """Loads what `config` names.

  Raises:
    UserError: before anything expensive, for all that can be known from the
      configuration alone; then for what the files say.
  """
  check(config)
  method = base.make(config.method)
  loaded = load.load(config.model, dtype=dtype(config))
  model = loaded.model.clone(
    scan=config.scan,
    remat=config.remat,
    config=dataclasses.replace(
      loaded.config, dropout_rate=config.train.dropout
    ),
  )
  return Parts(
    config,
    loaded,
    tokenizer.load(config.tokenizer or loaded.folder),
    TunedModel(model, method),
  )


def check(config: ConfigDict) -> None:
  """Refuses values that no run can have."""
  one_of('dtype', config.dtype, DTYPES)
  one_of('eval.by', config.eval.by, ('generate', 'rank'))
  one_of('eval.split', config.eval.split, ('dev', 'test'))
  positive = (
    'input_length',
    *(f'train.{k}' for k in ('steps', 'batch_size', 'accumulate')),
    *(f'train.{k}' for k in ('eval_every', 'save_every', 'log_every')),
    *('train.in_flight', 'eval.batch_size', 'max_length'),
  )
  for key in positive:
    node = config
    for name in key.split('.'):
      node = node[name]
    if node < 1:
      raise UserError(f'{key}={node} must be at least 1')
  train = config.train
  if train.batch_size % train.accumulate:
    raise UserError(
      f'train.batch_size={train.batch_size} is not a multiple of '
      f'train.accumulate={train.accumulate} micro-batches'
    )
  if config.seed < 0:
    raise UserError(f'seed={config.seed} must be at least 0')
  if not 0 <= train.dropout < 1:
    raise UserError(f'train.dropout={train.dropout} must be in [0, 1)')
  optim.schedule(config.optimizer, steps=train.steps)
  sampler(config)


def dtype(config: ConfigDict) -> str:
  if config.dtype != 'auto':
    return config.dtype
  return 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'


def sampler(config: ConfigDict) -> Any:
  """How tokens are drawn: greedy at temperature 0."""
  if config.temperature < 0 or config.top_k < 0 or not 0 < config.top_p <= 1:
    raise UserError(
      f'temperature={config.temperature}, top_k={config.top_k}, '
      f'top_p={config.top_p}: need temperature >= 0, top_k >= 0 and '
      '0 < top_p <= 1'
    )
  if not config.temperature:
    return sample.Greedy()
  return sample.Sample(
    temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
  )
