"""`--mode=plan`: what a run takes on accelerators that are not there.

Owns the story: outline the run, trace and compile its steps, tell what they
take, and look for the nearest change that fits where they do not. Reads no
weights and no data; what is compiled and what is estimated, it says.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ptjax import assemble, memory, mesh, parts, progress, tree
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.data import split
from ptjax.plan import ahead, apart, cost, nearest, sizes, steps, tell
from ptjax.plan.targets import Target, parse

# Candidates that are compiled at most until one fits: of those that fit by the
# estimate, and of those of which it may be wrong.
_TRIES = 4
# Of what is temporary, the most that was estimated for what was compiled.
_OVER = 1.6


def run(config: Any, target: str) -> list[tell.Plan]:
  """Plans a run for each target of `a,b,c`, and says it.

  What is for TPUs is planned in a process of its own: see `apart`.

  Raises:
    UserError: no such target or model, a mesh that does not divide them,
      nothing to compile with, or a compiler that crashes.
  """
  found = [parse(name) for name in target.split(',')]
  if any(each.chip.platform == 'tpu' for each in found):
    ahead.check()
  for name in config.plan.functions:
    config_lib.one_of('plan.functions', name, steps.NAMES)
  split.tasks(config)  # a misspelled one is told before anything compiles
  plans = []
  with apart.Apart() as process:
    for each, made in itertools.product(found, _configs(config)):
      if each.chip.platform == 'tpu':
        what = f'--target={each.name}, remat={made.remat}'
        plans.append(process.ask(what, plan, made, each))
      else:
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
  where = {'target': target, 'devices': devices}
  made = _outlined(config, *where.values())
  with made.layout.tracing(made.loaded.config.vocab_size):
    # As a run of these shapes would find it there.
    given = _changed(config, {'remat': made.remat(*steps.trained(made))})
  made = _outlined(given, *where.values())
  facts = _facts(made, target)
  if all(fact.fits for fact in facts):
    return _plan(made, target, facts)
  change, tries = _fewer_rows(given, facts, words={}, **where), 0
  if change is None:
    change, tries = _nearest(config, given.remat, **where)
  return dataclasses.replace(
    _plan(made, target, facts), change=change, tries=tries
  )


def _nearest(
  config: Any, remat: str, *, target: Target, devices: Any
) -> tuple[tell.Change | None, int]:
  """The cheapest change with which the run fits, and how many were tried.

  Args:
    remat: what the run would do as it is, which was tried.
  """
  tries = {True: 0, False: 0}  # by whether the estimate has them fit
  for words in nearest.changes(config, target.devices):
    if words == {'remat': remat}:
      continue
    made = _made(config, words, target=target, devices=devices)
    if made is None or not _may_fit(made, target):
      continue
    sure = _may_fit(made, target, over=1.0)
    if tries[sure] == _TRIES:
      if sure:
        break
      continue
    tries[sure] += 1
    facts = _facts(made, target)
    if all(fact.fits for fact in facts):
      change = tell.Change(words, _plan(made, target, facts))
    else:
      where = {'target': target, 'devices': devices}
      change = _fewer_rows(config, facts, words=words, **where)
    if change:
      return change, sum(tries.values())
  return None, sum(tries.values())


def _fewer_rows(
  config: Any,
  facts: list[tell.Fact],
  *,
  words: dict[str, Any],
  target: Target,
  devices: Any,
) -> tell.Change | None:
  """The changed run whose evaluation has fewer rows at once; None if that is
  not what does not fit, or none does."""
  trains, *rest = facts
  if trains.name != 'train' or not trains.fits:
    return None
  rows = config.eval.batch_size
  while not all(fact.fits for fact in rest):
    if rows % 2:
      return None
    rows //= 2
    more = {**words, 'eval.batch_size': rows}
    made = _made(config, more, target=target, devices=devices)
    if made is None:  # the mesh does not divide them
      return None
    rest = _facts(made, target, names=steps.NAMES[1:])
  return tell.Change(more, _plan(made, target, [trains, *rest]))


def _made(
  config: Any, words: dict[str, Any], *, target: Target, devices: Any
) -> parts.Parts | None:
  """The changed run; None if a mesh does not divide its batch or its model."""
  try:
    return _outlined(_changed(config, words), target, devices)
  except UserError:
    return None


def _may_fit(made: parts.Parts, target: Target, over: float = _OVER) -> bool:
  """By the estimate: alone where nothing compiles, else with what it is over.

  Left to itself it would rule out what loses no speed: on v5e:2x4 T5-XXL with
  `remat=products` is estimated at 17.4 GiB and compiled to 13.3.
  """
  if not _compiles(made.config, target, 'train'):
    over = 1.0
  return sizes.weights(made) + sizes.temporary(made) / over <= target.held


def _compiles(config: Any, target: Target, name: str) -> bool:
  return target.chip.platform == 'tpu' and name in config.plan.functions


def _outlined(config: Any, target: Target, devices: Any) -> parts.Parts:
  if devices is None:
    layout = mesh.abstract(config, target.devices, platform='gpu')
  else:
    layout = mesh.make(config, devices)
  room = memory.limit(config.population.memory) or int(target.held)
  return assemble.outlined(config, layout, room=room)


def _devices(target: Target) -> list[Any] | None:
  """None where nothing compiles for them."""
  return ahead.devices(target) if target.chip.platform == 'tpu' else None


def _facts(
  made: parts.Parts, target: Target, *, names: Sequence[str] = steps.NAMES
) -> list[tell.Fact]:
  """What each step takes; none behind the first that does not fit."""
  names, out = set(names), []
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
  about = sizes.temporary(made) if step.name == 'train' else None
  fact = tell.Fact(step.name, work, weights, about)
  if not _compiles(made.config, target, step.name):
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
