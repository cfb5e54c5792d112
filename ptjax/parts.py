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

from ptjax import config as config_lib
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
  def greedy(self) -> Any:
    return step.make_generate(self.tuned_model, sampler=sample.Greedy())

  @functools.cached_property
  def generate(self) -> Any:
    drawn = sampler(self.config)
    if drawn == sample.Greedy():
      return self.greedy
    return step.make_generate(self.tuned_model, sampler=drawn)

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
      start['prompt_PxD'] = prompt.rows(method.file)
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
      shape = model[name].shape if name in model else (*array.shape[:1], width)
      if name not in model and name != 'prompt/encoder':
        raise UserError(
          f'the prompt holds {name!r}, which {self.loaded.name} does not have'
        )
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
  pieces = _pieces(config, loaded)
  _check_fit(pieces, loaded)
  return Parts(config, loaded, pieces, TunedModel(model, method))


def _pieces(config: ConfigDict, loaded: load.Loaded) -> tokenizer.Tokenizer:
  """The named tokenizer or the model's own; a T5X checkpoint has none."""
  try:
    return tokenizer.load(config.tokenizer or loaded.folder)
  except UserError as error:
    if config.tokenizer:
      raise
    ids = loaded.config
    return tokenizer.missing(
      error, eos_id=ids.eos_id, pad_id=ids.pad_id, vocab_size=ids.vocab_size
    )


def _check_fit(pieces: tokenizer.Tokenizer, loaded: load.Loaded) -> None:
  """Refuses another model's tokenizer: ids above the rows are a prompt's."""
  theirs, config = (pieces.eos_id, pieces.pad_id), loaded.config
  if pieces.vocab_size > config.vocab_size:
    why = f'has {pieces.vocab_size} pieces, but there are {config.vocab_size}'
    why += ' embedding rows'
  elif theirs != (config.eos_id, config.pad_id):
    why = f'ends with id {theirs[0]} and pads with {theirs[1]}, but the model '
    why += f'with {config.eos_id} and {config.pad_id}'
  else:
    return
  raise UserError(
    f'the tokenizer is not that of {loaded.name}: it {why}; set '
    "config.tokenizer to the model's own"
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
  for key in ('eval.untuned', 'shots', 'target_length', 'train.patience'):
    node = config_lib.flatten(config)[key]
    if node < 0:
      raise UserError(f'{key}={node} must be at least 0')
  # jax.random.key reads 32 bits: 2**32 would be seed 0 again.
  if not 0 <= config.seed < 2**32 - 1:
    raise UserError(f'seed={config.seed} must be in [0, {2**32 - 1})')
  if not config.optimizer.lr > 0:
    raise UserError(f'optimizer.lr={config.optimizer.lr} must be above 0')
  if any(not isinstance(b, int) or b < 1 for b in config.buckets):
    raise UserError(
      f'buckets={tuple(config.buckets)} must be lengths in pieces, such as '
      '(64, 128)'
    )
  _check_start(config.method)
  if not 0 <= train.dropout < 1:
    raise UserError(f'train.dropout={train.dropout} must be in [0, 1)')
  one_of('optimizer.name', config.optimizer.name, optim.NAMES)
  optim.schedule(config.optimizer, steps=train.steps)
  sampler(config)


def _check_start(method: ConfigDict) -> None:
  """A start from something must say from what."""
  for init in ('text', 'file'):
    if method.init == init and not method[init].strip():
      raise UserError(f'method.init={init} needs method.{init}, which is empty')


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
