"""What a person reads of a plan: a paragraph each, and a table of several.

Owns words and units. Computes nothing but sums for them.
"""

import dataclasses
from typing import Any

from ptjax import writer
from ptjax.plan import ahead, cost, steps
from ptjax.plan.targets import GIB, Target

_HOURS = 3600


@dataclasses.dataclass(frozen=True)
class Fact:
  """What one step takes on one device.

  Attributes:
    name: train, decode or rank.
    work: operations and bytes moved, by shapes.
    weights: bytes of frozen weights.
    about: bytes of what is temporary, estimated; None = there is no estimate.
    compiled: what the compiler says; None = nothing was compiled.
    fits: whether a device can hold it.
  """

  name: str
  work: cost.Share
  weights: int
  about: int | None = None
  compiled: ahead.Compiled | None = None
  fits: bool = True

  @property
  def temporary(self) -> int | None:
    if self.compiled is None:
      return self.about
    return self.compiled.temporary if self.compiled.fits else None

  @property
  def peak(self) -> int | None:
    if self.compiled is not None:
      return self.compiled.peak
    return None if self.about is None else self.weights + self.about


@dataclasses.dataclass(frozen=True)
class Change:
  """Keys to set, and the plan with them."""

  words: dict[str, Any]
  plan: 'Plan'


@dataclasses.dataclass(frozen=True)
class Plan:
  """One run on one target, and the nearest that fits if it does not.

  Attributes:
    mesh: devices by mesh axis.
    parameters: of the frozen model.
    front: virtual tokens of a prompt.
    members: prompts side by side.
    tries: candidates that were looked at, beside what the estimate left out.
  """

  config: Any
  target: Target
  mesh: dict[str, int]
  parameters: int
  dtype: str
  front: int
  members: int
  lengths: steps.Lengths
  facts: list[Fact]
  run: cost.Run
  change: Change | None = None
  tries: int = 0

  @property
  def fits(self) -> bool:
    return all(fact.fits for fact in self.facts)

  def fact(self, name: str) -> Fact | None:
    return next((fact for fact in self.facts if fact.name == name), None)

  def seconds(self, name: str, reached: float) -> float:
    """Of a step, where that share of the peak is reached; 0 without one."""
    fact = self.fact(name)
    if fact is None:
      return 0.0
    return cost.seconds(fact.work, self.target, reached=reached)

  def hours(self, reached: float) -> float:
    by = 'rank' if self.config.eval.by == 'rank' else 'decode'
    return cost.hours(
      self.run,
      step=self.seconds('train', reached),
      evaluation=self.seconds(by, reached),
    )


def lines(plan: Plan) -> list[str]:
  """A plan in words."""
  out = [_head(plan), writer.table(_rows(plan))]
  out += [_sent(fact) for fact in plan.facts if fact.compiled]
  if plan.fits:
    return [*out, *_time(plan), '']
  return [*out, *_too_large(plan), '']


def _head(plan: Plan) -> str:
  config, target = plan.config, plan.target
  cut = ' x '.join(f'{axis} {n}' for axis, n in plan.mesh.items())
  prompts = f'{plan.members} prompt{"s" if plan.members > 1 else ""}'
  train = config.train
  kept = ', kept in int8' if config.weights == 'int8' else ''
  chip = f'{target.chips} chip{"s" if target.chips > 1 else ""}'
  if target.chip.devices > 1:
    chip += f' of {target.chip.devices} devices each'
  return (
    f'{config.model} on {target.name}: {chip}, mesh {cut}\n'
    f'  {plan.parameters / 1e9:.3f} B parameters in {plan.dtype}{kept}; '
    f'{prompts} of {plan.front} virtual tokens; batches of '
    f'{train.batch_size} x ({plan.front} + {plan.lengths.inputs}) to '
    f'{plan.lengths.targets} pieces'
    f'{f" in {train.accumulate} parts" if train.accumulate > 1 else ""}, '
    f'remat {config.remat}'
  )


def _rows(plan: Plan) -> list[list[Any]]:
  """Of a device, each step."""
  head = ['a device', 'weights', 'temporary', 'peak', 'of GiB', 'fits']
  rows = [[*head, 'TFLOP', 'GB moved', 'seconds', 'memory is']]
  low, high = plan.config.plan.low, plan.config.plan.high
  for fact in plan.facts:
    known = fact.compiled.limit if fact.compiled else 0
    limit = known or (plan.target.memory if fact.compiled else plan.target.held)
    fits = 'yes' if fact.fits else 'no'
    rows.append(
      [
        fact.name,
        _gib(fact.weights),
        _gib(fact.temporary),
        _gib(fact.peak),
        _gib(limit),
        fits if fact.peak is not None else '–',
        f'{fact.work.operations / 1e12:.2f}',
        f'{fact.work.bytes / 1e9:.1f}',
        f'{plan.seconds(fact.name, high):.2f} to '
        f'{plan.seconds(fact.name, low):.2f}',
        _how(fact),
      ]
    )
  return rows


def _how(fact: Fact) -> str:
  if fact.compiled:
    return 'compiled'
  return '–' if fact.peak is None else 'estimated'


def _gib(bytes_: float | None) -> str:
  return '–' if bytes_ is None else f'{bytes_ / GIB:.2f}'


def _sent(fact: Fact) -> str:
  if fact.compiled.collectives is None:
    return (
      f'  {fact.name}: what it sends cannot be read, since this libtpu is not '
      "that of this jax, which pip install -e '.[plan]' gets"
    )
  if not fact.compiled.sent:
    return f'  {fact.name}: nothing is sent' if fact.fits else ''
  said = ', '.join(
    f'{kind} {sent.times} times ({sent.bytes / 1e9:.2f} GB)'
    for kind, sent in fact.compiled.sent.items()
  )
  return f'  {fact.name} sends: {said}'


def _time(plan: Plan) -> list[str]:
  run, settings = plan.run, plan.config.plan
  fast, slow = plan.hours(settings.high), plan.hours(settings.low)
  chips = plan.target.chips
  out = [
    f'  expected at {settings.low:.0%} to {settings.high:.0%} of the peak of '
    f'{plan.target.chip.peak / 1e12:.0f} TFLOP/s, every row as long as the '
    f'longest, without what is sent: {run.tasks} '
    f'task{"s" if run.tasks > 1 else ""} x ({run.steps} steps + '
    f'{run.evaluations} evaluations of {settings.dev_examples} examples) in '
    f'{fast:.1f} to {slow:.1f} hours, {fast * chips:.0f} to '
    f'{slow * chips:.0f} chip-hours'
  ]
  if settings.price:
    low, high = (h * chips * settings.price for h in (fast, slow))
    out[0] += f', {low:,.0f} to {high:,.0f} at {settings.price:g} a chip-hour'
  return out


def _too_large(plan: Plan) -> list[str]:
  """What does not fit, and the way out."""
  bad = next(fact for fact in plan.facts if not fact.fits)
  first = f'  {bad.name} does not fit'
  if plan.change is None:
    return [
      f'{first}, and none of {plan.tries} smaller runs that might have did: '
      'take more chips'
    ]
  how = 'compiled' if bad.compiled else 'by the estimate'
  words = ','.join(f'{k}={_word(v)}' for k, v in plan.change.words.items())
  inner = lines(plan.change.plan)[1:-1]
  return [f'{first}; the nearest that does ({how}): {words}', *inner]


def _word(value: Any) -> str:
  return str(value).lower() if isinstance(value, bool) else str(value)


def summary(plans: list[Plan]) -> str:
  """One line a plan, of what fits: Markdown, as BUILD.md has it."""
  head = ['target', 'prompts', 'set', 'weights', 'peak', 'of GiB', 's a step']
  rows = [[*head, 'hours a task', 'chip-hours a task', 'memory is']]
  for asked in plans:
    rows.append(_line(asked))
  text = ['| ' + ' | '.join(map(str, row)) + ' |' for row in rows]
  text.insert(1, '|' + '---|' * len(rows[0]))
  return '\n'.join(text)


def _line(asked: Plan) -> list[str]:
  plan, words = asked, {}
  if asked.config.plan.remat:  # one of several
    words['remat'] = asked.config.remat
  if asked.change:
    plan, words = asked.change.plan, words | asked.change.words
  words = ', '.join(f'{k}={_word(v)}' for k, v in words.items())
  row = [asked.target.name, str(asked.members)]
  fact = plan.fact('train') or plan.facts[0]
  if not plan.fits:
    peak = _gib(fact.peak)
    return [*row, 'nothing fits', _gib(fact.weights), peak, *['–'] * 5]
  low, high = plan.config.plan.low, plan.config.plan.high
  span = [plan.hours(x) / plan.run.tasks for x in (high, low)]
  chips = plan.target.chips
  limit = plan.target.memory if fact.compiled else plan.target.held
  return [
    *row,
    words or 'as given',
    _gib(fact.weights),
    _gib(fact.peak),
    _gib(limit),
    f'{plan.seconds("train", high):.1f}–{plan.seconds("train", low):.1f}',
    f'{span[0]:.0f}–{span[1]:.0f}',
    f'{span[0] * chips:.0f}–{span[1] * chips:.0f}',
    _how(fact),
  ]
