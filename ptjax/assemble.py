"""A configuration -> the parts of a run, with its weights or in outline.

Owns the order in which model, tokenizer and method are read and put together,
and what is refused where they do not belong together. Knows no task.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ptjax import checks, memory, mesh, progress, relay
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.data import tokenizer
from ptjax.methods import base, template
from ptjax.parts import Parts
from ptjax.tuned import base as tuned_base
from ptjax.weights import load, outline


def parts(config: ConfigDict) -> Parts:
  """Loads what `config` names.

  Raises:
    UserError: before anything expensive, for all that can be known from the
      configuration alone; then for what the files say.
  """
  config = config_lib.resolved(config)
  checks.check(config)
  if config.train.loss == 'text':
    # By its config.json alone, before weights are fetched or read.
    _check_loss(config, outline.outline(config.model).model)
  layout = mesh.make(config)
  loaded = load.load(
    config.model,
    dtype=_dtype(config),
    int8=config.weights == 'int8',
    placement=layout.frozen,
  )
  pieces = _pieces(config, loaded)
  config.method.template = template.in_pieces(
    config.method.template, lambda word: pieces.encode(pieces.joint + word)
  )
  method = base.make(config.method)
  # Of several ends the one that texts have.
  tuned_model = _tuned_model(
    *(config, loaded, method),
    eos_id=pieces.eos_id,
    platform=jax.default_backend(),
  )
  _check_fit(pieces, loaded, causal=tuned_model.causal)
  if tuned_model.causal and pieces.note:
    progress.say(pieces.note)
  # Processes that keep different things would wait for each other for ever.
  room = relay.of_first(lambda: memory.room(config.population.memory))
  return Parts(config, loaded, pieces, tuned_model, layout, room)


def outlined(
  config: ConfigDict, layout: mesh.Layout, *, room: int | None = None
) -> Parts:
  """The parts of a run on that mesh, without values and without a tokenizer.

  Frozen parameters are shapes, from which steps are traced and compiled.

  Args:
    room: bytes of a device, see `memory.room`; None = nobody knows.

  Raises:
    UserError: as `parts` does, but for what weights and a tokenizer say.
  """
  config = config_lib.resolved(config)
  checks.check(config, layout)
  loaded = outline.outline(
    config.model,
    dtype=_dtype(config, layout.platform),
    int8=config.weights == 'int8',
    place=layout.parts,
  )
  _check_loss(config, loaded.model)
  method, eos_id = base.make(config.method), loaded.config.eos_id
  tuned_model = _tuned_model(
    config, loaded, method, eos_id=eos_id, platform=layout.platform
  )
  return Parts(config, loaded, None, tuned_model, layout, room)


def _tuned_model(
  config: ConfigDict,
  loaded: load.Loaded,
  method: base.Method,
  *,
  eos_id: int,
  platform: str,
) -> tuned_base.TunedModel:
  sizes = dataclasses.replace(
    loaded.config, dropout_rate=config.train.dropout, eos_id=eos_id
  )
  model = loaded.model.clone(
    scan=config.scan,
    config=sizes,
    dtype=_between(loaded.model.dtype, platform),
  )
  return tuned_base.make(model, method)


def _between(dtype: jnp.dtype, platform: str) -> jnp.dtype:
  """The type of what lies between the products of a model of this type.

  On a CPU products alone read narrow numbers: around all else XLA widens whole
  arrays, and makes them narrow again.
  """
  return jnp.promote_types(dtype, jnp.float32) if platform == 'cpu' else dtype


def _check_loss(config: ConfigDict, model: nn.Module) -> None:
  if config.train.loss == 'text' and not tuned_base.causal(model):
    raise UserError(
      'train.loss=text is for decoder-only models, whose input is said as it '
      f'is read; {config.model} is not one; use train.loss=targets'
    )


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


def _check_fit(
  pieces: tokenizer.Tokenizer, loaded: load.Loaded, *, causal: bool
) -> None:
  """Refuses another model's tokenizer: ids above the rows are a prompt's."""
  theirs, config = (pieces.eos_id, pieces.pad_id), loaded.config
  if pieces.vocab_size > config.vocab_size:
    why = f'has {pieces.vocab_size} pieces, but there are {config.vocab_size}'
    why += ' embedding rows'
  elif causal and pieces.eos_id not in (config.eos_id, *config.ends):
    # What pads is masked, and most say nothing of it.
    why = f'ends with id {pieces.eos_id}, but the model with {config.eos_id}'
  elif not causal and theirs != (config.eos_id, config.pad_id):
    why = f'ends with id {theirs[0]} and pads with {theirs[1]}, but the model '
    why += f'with {config.eos_id} and {config.pad_id}'
  else:
    return
  raise UserError(
    f'the tokenizer is not that of {loaded.name}: it {why}; set '
    "config.tokenizer to the model's own"
  )


def _dtype(config: ConfigDict, platform: str = '') -> str:
  """What is computed in, there or on the default backend."""
  if config.dtype != 'auto':
    return config.dtype
  cpu = (platform or jax.default_backend()) == 'cpu'
  return 'float32' if cpu else 'bfloat16'
