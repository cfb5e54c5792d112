"""What a run is made of: model, tokenizer, method, and its jitted functions.

Shared by every task, so that the frozen weights are held once and a step is
compiled once for each bucket of lengths. How it is made of a configuration is
said in `assemble`. Knows no task.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ptjax import (
  answer,
  cpu,
  memory,
  mesh,
  optim,
  population,
  side_by_side,
  step,
  transfer,
  tree,
)
from ptjax.config import AUTO, REMAT, UserError
from ptjax.data import tokenizer
from ptjax.methods import base
from ptjax.predict import beam, sample
from ptjax.tuned import base as tuned_base
from ptjax.weights import load


@dataclasses.dataclass(frozen=True)
class Parts:
  """The loaded model, its tokenizer, and what is done with them."""

  config: ConfigDict
  loaded: load.Loaded
  tokenizer: tokenizer.Tokenizer | None  # None: see `assemble.outlined`
  tuned_model: tuned_base.TunedModel
  layout: mesh.Layout
  room: int | None = None  # bytes of a device, see `memory.room`

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
    plain = self._step(self.tuned_model)
    if not self._fast:
      return plain
    model = self.tuned_model
    if model.model.config.num_layers <= cpu.SHALLOW:
      model = model.unrolled()
    fast = self._step(model, compiler_options=cpu.options())
    return cpu.Either(self._roomy, fast, plain)

  def _step(self, model: tuned_base.TunedModel, **compiled: Any) -> Any:
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
      *(model, self.tx),
      rates=rates,
      options=options,
      remat=self.remat,
      out_shardings=self.layout.whole,
      **compiled,
    )

  def _roomy(self, state: Any, frozen: Any, batch: Any) -> bool:
    """Whether a step may take the memory that its fast way does.

    Without a loop a CPU's compiler keeps all products, whatever it is told, and
    a kept heap (`heap`) may hold what was freed beside what is new.
    """
    del frozen
    if self.remat(state, batch) != 'products':
      return False
    needed = self._needs(state, batch, 'products', times=2)
    return memory.fits(needed, self.room)

  def step_memory(self, state: Any, frozen: Any, batch: Any) -> int:
    """Bytes of a device that the compiler gives a step; compiles it anew."""

    def needed(*arguments: Any) -> int:
      found = self.placed_step.lower(*arguments).compile().memory_analysis()
      held = found.argument_size_in_bytes + found.output_size_in_bytes
      return held - found.alias_size_in_bytes + found.temp_size_in_bytes

    return self._placed(needed, axis=1)(state, frozen, batch)

  def remat(self, state: Any, batch: Any) -> str:
    """What layers keep in a training step: as set, or as there is room for.

    Args:
      state, batch: of a population, or their shapes: [E, …], [E, B, …].
    """
    if self.config.remat != AUTO:
      return self.config.remat
    return memory.policy(
      self.room, lambda remat: self._needs(state, batch, remat)
    )

  def _needs(
    self, state: Any, batch: Any, remat: str, *, times: int = 1
  ) -> int:
    """Bytes that a step needs of a device, its activations so many times."""
    members, rows, length = batch['inputs'].shape
    at_once = side_by_side.at_once(members, rows * length)
    # Of what trains, the gradient, the update and what comes of it.
    moving = 3 * mesh.bytes_of(state.tuned) * at_once // members
    held = mesh.bytes_on_one(self.loaded.params) + self.at_work
    held += mesh.bytes_of(state) + moving
    shape = {'length': length, 'target': batch['targets'].shape[-1]}
    return held + times * at_once * self.member_bytes(**shape, remat=remat)

  @property
  def least(self) -> str:
    """Of the policies that `config.remat` allows, the one that keeps least."""
    asked = self.config.remat
    return REMAT[-1] if asked == AUTO else asked

  @property
  def at_work(self) -> int:
    """Bytes of one layer's weights as they are used, beside what is held.

    Weights that are cut over fsdp are gathered a layer at a time, those in
    eight bits are multiplied in another type.
    """
    fsdp = self.layout.mesh.shape['fsdp']
    layers = self.loaded.config.num_layers
    held = mesh.bytes_on_one(self.loaded.params) // layers
    gathered = held * (fsdp - 1)
    if not self._int8:
      return gathered
    itemsize = jnp.dtype(self.tuned_model.model.dtype).itemsize
    return gathered + held * fsdp * itemsize

  def member_bytes(self, *, length: int, target: int, remat: str) -> int:
    """Bytes of a device that the training of one member takes, estimated.

    Args:
      length: pieces of an input, padded.
      target: pieces of a target.
      remat: what layers keep, one of `config.REMAT`.
    """
    train, model = self.config.train, self.tuned_model.model
    return memory.member_bytes(
      model.config,
      batch=train.batch_size // train.accumulate // self.layout.row_shards,
      prompt=self.tuned_model.method.front,
      length=length,
      target=target,
      itemsize=jnp.dtype(model.dtype).itemsize,
      remat=remat,
      full_text=train.loss == 'text',
      tensor=self.layout.mesh.shape['tensor'],
    )

  @functools.cached_property
  def answers(self) -> Any:
    return self._placed(self.placed_answers)

  @functools.cached_property
  def placed_answers(self) -> Any:
    # Never drawn at random: a score is to be the same tomorrow.
    found = sampler(self.config)
    drawn = isinstance(found, sample.Sample)
    return self._made(
      answer.make_answers,
      sampler=sample.Greedy() if drawn else found,
      # Of a decoder-only model little is read, and what is would be held.
      compiler_options=None if self.causal else self._options,
    )

  @functools.cached_property
  def choices(self) -> Any:
    return self._placed(self.placed_choices)

  @functools.cached_property
  def placed_choices(self) -> Any:
    return self._made(step.make_choices, compiler_options=self._options)

  @functools.cached_property
  def generate(self) -> Any:
    made = self._made(answer.make_generate, sampler=sampler(self.config))
    return self._placed(made)

  @functools.cached_property
  def log_probs(self) -> Any:
    return self._placed(self._made(step.make_log_probs))

  def _made(self, make: Callable, **options: Any) -> Any:
    out = self.layout.whole
    return make(self.tuned_model, out_shardings=out, **options)

  @functools.cached_property
  def _fast(self) -> bool:
    """Whether training and evaluation are, not what serves: see `cpu`."""
    return cpu.fast(
      *(self.config.cpu, self.layout.platform),
      devices=self.layout.mesh.size,
      dtype=jnp.int8 if self._int8 else self.loaded.model.dtype,
      features=self.loaded.config.d_model,
    )

  @property
  def _options(self) -> dict[str, Any] | None:
    return cpu.options() if self._fast else None

  @property
  def _int8(self) -> bool:
    return self.config.weights == 'int8'

  def _placed(self, function: Callable, *, axis: int = 0) -> Callable:
    size = self.loaded.config.vocab_size
    return self.layout.on_rows(function, vocab_size=size, axis=axis)

  def init(
    self, *, labels: Sequence[str] = (), tasks: int = 1
  ) -> tuple[Any, Any]:
    """(tuned of all members, frozen) at step 0, for a task with these label
    words, or a mixture of so many."""
    begun = [self._init(member, labels, tasks) for member in self.members]
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

  def _init(
    self, member: population.Member, labels: Sequence[str], tasks: int
  ) -> Any:
    method, start = self.config.method, {'tasks': tasks}
    if member.init == 'labels':
      pieces = self.tokenizer
      start['label_ids'] = [pieces.encode(pieces.joint + w) for w in labels]
    if member.init == 'text':
      start['text_ids'] = self.tokenizer.encode(method.text)
    if member.init == 'file':
      start['prompt_PxD'] = transfer.rows(method)
    begun = member_method(method, member)
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


def member_method(
  settings: ConfigDict, member: population.Member
) -> base.Method:
  """The method as this member begins it."""
  settings = settings.copy_and_resolve_references()
  settings.init = member.init
  return base.make(settings)


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
