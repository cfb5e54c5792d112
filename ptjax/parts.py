"""What a run is made of: config -> model, tokenizer, method, jitted functions.

Built once and shared by every task, so that the frozen weights are held once
and a step is compiled once for each bucket of lengths. Knows no task.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ptjax import config as config_lib
from ptjax import mesh, optim, population, progress, step, tree
from ptjax.config import UserError, one_of
from ptjax.data import hard_prompt, tokenizer
from ptjax.export import names
from ptjax.methods import base, template
from ptjax.predict import beam, sample
from ptjax.tuned import base as tuned_base
from ptjax.weights import load, outline

DTYPES = ('auto', 'float32', 'bfloat16')


@dataclasses.dataclass(frozen=True)
class Parts:
  """The loaded model, its tokenizer, and what is done with them."""

  config: ConfigDict
  loaded: load.Loaded
  tokenizer: tokenizer.Tokenizer | None  # None: see `outlined`
  tuned_model: tuned_base.TunedModel
  layout: mesh.Layout

  @property
  def causal(self) -> bool:
    """Whether the model is decoder-only: an answer goes on from its input."""
    return self.tuned_model.causal

  @functools.cached_property
  def members(self) -> tuple[population.Member, ...]:
    return population.members(self.config)

  def tx(self, lr: Any) -> Any:
    """The optimizer of a member with this learning rate."""
    config = self.config
    return optim.make(config.optimizer, steps=config.train.steps, lr=lr)

  @functools.cached_property
  def train_step(self) -> Any:
    return self._placed(self.placed_step, axis=1)

  @functools.cached_property
  def placed_step(self) -> Any:
    """The jitted step, of a batch that is placed already."""
    train = self.config.train
    options = step.StepOptions(
      accumulate=train.accumulate,
      dropout=train.dropout > 0,
      z_loss=train.z_loss,
      patience=train.patience,
      full_text=train.loss == 'text',
    )
    rates = [member.lr for member in self.members]
    return step.make_train_step(
      *(self.tuned_model, self.tx),
      rates=rates,
      options=options,
      out_shardings=self.layout.whole,
    )

  def step_memory(self, state: Any, frozen: Any, batch: Any) -> int:
    """Bytes of a device that the compiler gives a step; compiles it anew."""

    def needed(*arguments: Any) -> int:
      found = self.placed_step.lower(*arguments).compile().memory_analysis()
      held = found.argument_size_in_bytes + found.output_size_in_bytes
      return held - found.alias_size_in_bytes + found.temp_size_in_bytes

    return self._placed(needed, axis=1)(state, frozen, batch)

  @functools.cached_property
  def answers(self) -> Any:
    return self._placed(self.placed_answers)

  @functools.cached_property
  def placed_answers(self) -> Any:
    # Never drawn at random: a score is to be the same tomorrow.
    found = sampler(self.config)
    drawn = isinstance(found, sample.Sample)
    return self._made(
      step.make_answers, sampler=sample.Greedy() if drawn else found
    )

  @functools.cached_property
  def choices(self) -> Any:
    return self._placed(self.placed_choices)

  @functools.cached_property
  def placed_choices(self) -> Any:
    return self._made(step.make_choices)

  @functools.cached_property
  def generate(self) -> Any:
    made = self._made(step.make_generate, sampler=sampler(self.config))
    return self._placed(made)

  @functools.cached_property
  def log_probs(self) -> Any:
    return self._placed(self._made(step.make_log_probs))

  def _made(self, make: Callable, **options: Any) -> Any:
    out = self.layout.whole
    return make(self.tuned_model, out_shardings=out, **options)

  def _placed(self, function: Callable, *, axis: int = 0) -> Callable:
    size = self.loaded.config.vocab_size
    return self.layout.on_rows(function, vocab_size=size, axis=axis)

  def init(self, *, labels: Sequence[str] = ()) -> tuple[Any, Any]:
    """(tuned of all members, frozen) at step 0, for a task with these label
    words."""
    begun = [self._init(member, labels) for member in self.members]
    own = [name for name in begun[0][1] if name != 'model']
    if own and len(begun) > 1:
      raise UserError(
        f'tune={tuple(self.config.tune)} holds parameters of '
        f'{self.config.method.name} frozen, which a population of '
        f'{len(begun)} cannot share; let them train, or train one member'
      )
    tuned, frozen = stack([tuned for tuned, _ in begun]), begun[0][1]
    held = {name: self.layout.replicate(frozen[name]) for name in own}
    return self.layout.replicate(tuned), {**frozen, **held}

  def _init(self, member: population.Member, labels: Sequence[str]) -> Any:
    method, start = self.config.method, {}
    if member.init == 'labels':
      pieces = self.tokenizer
      start['label_ids'] = [pieces.encode(pieces.joint + w) for w in labels]
    if member.init == 'text':
      start['text_ids'] = self.tokenizer.encode(method.text)
    if member.init == 'file':
      start['prompt_PxD'] = names.rows(method.file)
    begun = _begun(method, member)
    tuned_model = tuned_base.make(self.tuned_model.model, begun)
    return tuned_model.init(
      jax.random.key(member.seed),
      self.loaded.params,
      tune=tuple(self.config.tune),
      **start,
    )

  def state(self, tuned: Any) -> step.TrainState:
    """The population's state before its first update."""
    return self.layout.replicate(self.begun(tuned))

  def begun(self, tuned: Any) -> step.TrainState:
    """That state, wherever jax puts it."""

    def begin(tuned, seed):
      rng = jax.random.key(seed + 1)
      return step.init_state(tuned, self.tx(0.0), rng=rng)

    seeds = [member.seed for member in self.members]
    return jax.vmap(begin)(tuned, jnp.asarray(seeds, jnp.uint32))

  def of_method(self, settings: Any) -> 'Parts':
    """The same model under another method; itself, if that is its own."""
    method = base.make(settings)
    if method == self.tuned_model.method:
      return self
    config = self.config.copy_and_resolve_references()
    config.method = settings
    tuned_model = tuned_base.make(self.tuned_model.model, method)
    return dataclasses.replace(self, config=config, tuned_model=tuned_model)

  def place(self, owns: Sequence[Any]) -> tuple[Any, Any]:
    """(tuned of all members, frozen) with what prompt files hold.

    Raises:
      UserError: a width, or a name, is not the model's.
    """
    model = tree.flatten({'model': self.loaded.params})
    for own in owns:
      self._check_shapes(tree.flatten(own), model)
    if not owns:
      return {}, tree.unflatten(model)
    held = tree.flatten(owns[0])
    rest = {name: leaf for name, leaf in model.items() if name not in held}
    return self.layout.replicate(stack(owns)), tree.unflatten(rest)

  def _check_shapes(self, held: dict[str, Any], model: dict[str, Any]) -> None:
    own = self.tuned_model.own_shapes(self.loaded.params)
    needed = {name: leaf.shape for name, leaf in model.items()} | own
    for name, array in held.items():
      if name not in needed:
        raise UserError(
          f'the prompt holds {name!r}, which {self.loaded.name} does not have'
        )
      if array.shape != needed[name]:
        raise UserError(
          f'{name} of the prompt has shape {array.shape}, but '
          f'{self.loaded.name} needs {needed[name]}'
        )
    missing = [name for name in own if name not in held]
    if missing:
      raise UserError(
        f'the prompt lacks {missing[0]!r}, which '
        f'{self.config.method.name} has on {self.loaded.name}'
      )


def stack(members: Sequence[Any]) -> Any:
  """Trees of one form as one, float32, with the member axis in front."""
  return jax.tree.map(
    lambda *leaves: jnp.stack([jnp.asarray(x, jnp.float32) for x in leaves]),
    *members,
  )


def _begun(settings: ConfigDict, member: population.Member) -> Any:
  settings = settings.copy_and_resolve_references()
  settings.init = member.init
  return base.make(settings)


def build(config: ConfigDict) -> Parts:
  """Loads what `config` names.

  Raises:
    UserError: before anything expensive, for all that can be known from the
      configuration alone; then for what the files say.
  """
  config = config_lib.resolved(config)
  check(config)
  layout = mesh.make(config)
  loaded = load.load(config.model, dtype=dtype(config), placement=layout.frozen)
  pieces = _pieces(config, loaded)
  config.method.template = template.in_pieces(
    config.method.template, lambda word: pieces.encode(pieces.joint + word)
  )
  method = base.make(config.method)
  # Of several ends the one that texts have.
  tuned_model = _tuned_model(config, loaded, method, eos_id=pieces.eos_id)
  _check_fit(pieces, loaded, causal=tuned_model.causal)
  if tuned_model.causal and pieces.note:
    progress.say(pieces.note)
  return Parts(config, loaded, pieces, tuned_model, layout)


def outlined(config: ConfigDict, layout: mesh.Layout) -> Parts:
  """The parts of a run on that mesh, without values: its frozen parameters are
  shapes, from which steps are traced and compiled; there is no tokenizer.

  Raises:
    UserError: as `build` does, but for what weights and a tokenizer say.
  """
  config = config_lib.resolved(config)
  check(config, layout)
  platform = layout.mesh.abstract_mesh.abstract_device.platform
  loaded = outline.outline(
    config.model, dtype=dtype(config, platform), place=layout.parts
  )
  method, eos_id = base.make(config.method), loaded.config.eos_id
  tuned_model = _tuned_model(config, loaded, method, eos_id=eos_id)
  return Parts(config, loaded, None, tuned_model, layout)


def _tuned_model(
  config: ConfigDict, loaded: load.Loaded, method: base.Method, *, eos_id: int
) -> tuned_base.TunedModel:
  sizes = dataclasses.replace(
    loaded.config, dropout_rate=config.train.dropout, eos_id=eos_id
  )
  model = loaded.model.clone(scan=config.scan, remat=config.remat, config=sizes)
  tuned_model = tuned_base.make(model, method)
  if config.train.loss == 'text' and not tuned_model.causal:
    raise UserError(
      'train.loss=text is for decoder-only models, whose input is said as it '
      f'is read; {config.model} is not one; use train.loss=targets'
    )
  if config.train.loss == 'text' and method.places.behind:
    raise UserError(
      'train.loss=text says the input too, behind which '
      f'method.template={config.method.template!r} has virtual tokens; leave '
      'them out, or use train.loss=targets'
    )
  return tuned_model


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


def check(config: ConfigDict, layout: mesh.Layout | None = None) -> None:
  """Refuses values that no run can have, on this mesh or on all devices."""
  config = config_lib.resolved(config)
  one_of('dtype', config.dtype, DTYPES)
  one_of('eval.by', config.eval.by, ('generate', 'rank'))
  one_of('eval.split', config.eval.split, ('dev', 'test'))
  _check_population(config)
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
  least_0 = (
    'eval.untuned',
    'shots',
    'target_length',
    'train.patience',
    'train.costs',
    'profile',
  )
  for key in least_0:
    node = config_lib.flatten(config)[key]
    if node < 0:
      raise UserError(f'{key}={node} must be at least 0')
  if any(not isinstance(b, int) or b < 1 for b in config.buckets):
    raise UserError(
      f'buckets={tuple(config.buckets)} must be lengths in pieces, such as '
      '(64, 128)'
    )
  one_of('train.loss', train.loss, ('targets', 'text'))
  if not 0 <= train.dropout < 1:
    raise UserError(f'train.dropout={train.dropout} must be in [0, 1)')
  one_of('optimizer.name', config.optimizer.name, optim.NAMES)
  optim.schedule(config.optimizer, steps=train.steps)
  sampler(config)
  if layout is None:
    mesh.make(config)


def _check_population(config: ConfigDict) -> None:
  if config.population.init and not hasattr(base.make(config.method), 'init'):
    raise UserError(
      f'population.init: {config.method.name} has no start to choose'
    )
  members = population.members(config)
  hard_prompt.check(config, members=len(members))
  for member in members:
    _begun(config.method, member)  # an unknown start raises
    _check_start(config.method, member.init)


def _check_start(method: ConfigDict, init: str) -> None:
  """A start from something must say from what."""
  if init in ('text', 'file') and not method[init].strip():
    raise UserError(f'method.init={init} needs method.{init}, which is empty')


def dtype(config: ConfigDict, platform: str = '') -> str:
  """What is computed in, there or on the default backend."""
  if config.dtype != 'auto':
    return config.dtype
  cpu = (platform or jax.default_backend()) == 'cpu'
  return 'float32' if cpu else 'bfloat16'


def sampler(config: ConfigDict) -> Any:
  """How an answer is found: greedy, drawn at random, or by several beams."""
  if config.beams < 1:
    raise UserError(f'beams={config.beams} must be at least 1')
  if config.temperature < 0 or config.top_k < 0 or not 0 < config.top_p <= 1:
    raise UserError(
      f'temperature={config.temperature}, top_k={config.top_k}, '
      f'top_p={config.top_p}: need temperature >= 0, top_k >= 0 and '
      '0 < top_p <= 1'
    )
  if config.beams > 1:
    if config.temperature:
      raise UserError(
        f'beams={config.beams} and temperature={config.temperature}: beams '
        'look for the likeliest answer, and nothing is drawn; set one of them'
      )
    return beam.Beams(config.beams, length_penalty=config.length_penalty)
  if not config.temperature:
    return sample.Greedy()
  return sample.Sample(
    temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
  )
