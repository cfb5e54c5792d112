"""`--mode=plan`: what a run takes on accelerators that are not there.

Owns the story: outline the run, trace and compile its steps, tell what they
take, and look for the nearest change that fits where they do not. Reads no
weights and no data; what is compiled and what is estimated, it says.
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from ptjax import assemble, mesh, parts, progress, tree
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.data import split
from ptjax.plan import ahead, cost, nearest, sizes, steps, tell
from ptjax.plan.targets import Target, parse

# Candidates that are compiled at most, until one fits.
_TRIES = 4


def run(config: Any, target: str) -> list[tell.Plan]:
  """Plans a run for each target of `a,b,c`, and says it.

  Raises:
    UserError: no such target or model, a mesh that does not divide them, or
      nothing to compile with.
  """
  found = [parse(name) for name in target.split(',')]
  if any(each.chip.platform == 'tpu' for each in found):
    ahead.check()
  for name in config.plan.functions:
    config_lib.one_of('plan.functions', name, steps.NAMES)
  split.tasks(config)  # a misspelled one is told before anything compiles
  plans = []
  for each, made in itertools.product(found, _configs(config)):
    plans.append(plan(made, each))
    for line in tell.lines(plans[-1]):
      progress.say(line)
  if len(plans) > 1:
    progress.say(tell.summary(plans))
  return plans


def _configs(config: Any) -> list[Any]:
  """That of each plan: `plan.members` by `plan.remat`."""
  for count in config.plan.members:
    if not isinstance(count, int) or count < 1:
      raise UserError(f'plan.members has {count!r}; prompts are from 1')
  for policy in config.plan.remat:
    config_lib.one_of('plan.remat', policy, config_lib.REMAT)
  members = config.plan.members or (config.population.seeds,)
  policies = config.plan.remat or (config.remat,)
  return [
    _changed(config, {'population.seeds': count, 'remat': policy})
    for count, policy in itertools.product(members, policies)
  ]


def plan(config: Any, target: Target) -> tell.Plan:
  """One run on one target; and the nearest that fits, if it does not."""
  devices = _devices(target)
  made = _outlined(config, target, devices)
  facts = _facts(made, target)
  if all(fact.fits for fact in facts):
    return _plan(made, target, facts)
  change, tries = None, 0
  for words in nearest.changes(config, target.devices):
    smaller = _try(config, words, target=target, devices=devices)
    if smaller is None:
      continue
    tries += 1
    less = _facts(smaller, target)
    if all(fact.fits for fact in less):
      change = tell.Change(words, _plan(smaller, target, less))
      break
    if tries == _TRIES:
      break
  return dataclasses.replace(
    _plan(made, target, facts), change=change, tries=tries
  )


def _try(
  config: Any, words: dict[str, Any], *, target: Target, devices: Any
) -> parts.Parts | None:
  """The changed run, if it can be one and might fit by the estimate."""
  try:
    made = _outlined(_changed(config, words), target, devices)
  except UserError:
    return None  # a mesh that does not divide a batch or a model
  about = sizes.weights(made) + sizes.temporary(made)
  return made if about <= target.held else None


def _outlined(config: Any, target: Target, devices: Any) -> parts.Parts:
  if devices is None:
    layout = mesh.abstract(config, target.devices, platform='gpu')
  else:
    layout = mesh.make(config, devices)
  return assemble.outlined(config, layout)


def _devices(target: Target) -> list[Any] | None:
  """None where nothing compiles for them."""
  return ahead.devices(target) if target.chip.platform == 'tpu' else None


def _facts(made: parts.Parts, target: Target) -> list[tell.Fact]:
  """What each step takes; none behind the first that does not fit."""
  names, out = set(steps.NAMES), []
  if not made.config.eval.rank and made.config.eval.by != 'rank':
    names -= {'rank'}
  if not jax.tree.leaves(steps.begin(made)[0]):
    names -= {'train'}  # nothing trains
  for name in (name for name in steps.NAMES if name in names):
    out.append(_fact(made, target, steps.trace(made, name)))
    if not out[-1].fits:
      break
  return out


def _fact(made: parts.Parts, target: Target, step: steps.Step) -> tell.Fact:
  weights, settings = sizes.weights(made), made.config.plan
  work = cost.share(
    step.work,
    devices=target.devices,
    tensor=made.layout.mesh.shape['tensor'],
  )
  compiles = target.chip.platform == 'tpu' and step.name in settings.functions
  about = sizes.temporary(made) if step.name == 'train' else None
  fact = tell.Fact(step.name, work, weights, about)
  if not compiles:
    fits = about is None or weights + about <= target.held
    return dataclasses.replace(fact, fits=fits)
  loops = steps.lengths(made.config).targets
  compiled = ahead.compile_(
    step.traced, loops=loops, thorough=settings.thorough
  )
  return dataclasses.replace(fact, compiled=compiled, fits=compiled.fits)


def _plan(
  made: parts.Parts, target: Target, facts: list[tell.Fact]
) -> tell.Plan:
  config = made.config
  train, longest = config.train, steps.lengths(config)
  run_ = cost.Run(
    tasks=len(split.tasks(config)),
    steps=train.steps,
    evaluations=train.steps // train.eval_every,
    batches=-(-config.plan.dev_examples // config.eval.batch_size),
  )
  return tell.Plan(
    config=config,
    target=target,
    mesh=dict(made.layout.mesh.shape),
    parameters=tree.count(made.loaded.params),
    dtype=jnp.dtype(made.loaded.model.dtype).name,
    front=made.tuned_model.method.front,
    members=len(made.members),
    lengths=longest,
    facts=facts,
    run=run_,
  )


def _changed(config: Any, words: dict[str, Any]) -> Any:
  return config_lib.update(config.copy_and_resolve_references(), words)
