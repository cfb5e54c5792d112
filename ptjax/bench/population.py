"""Members of a population against one prompt: time, memory, whole jobs.

Owns what is compared, at which sizes and what each comparison should reach.
The functions are those of a run, `parts.Parts`; none is made for this.
"""

import collections
import dataclasses
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ptjax import checks, parts, population
from ptjax import config as config_lib
from ptjax.bench import pairs, shapes
from ptjax.config import UserError
from ptjax.data import pipeline

TARGET = 8  # pieces of an answer, padded
GAIN = 0.05  # share of examples/s below which more members bring nothing


@dataclasses.dataclass(frozen=True, order=True)
class Case:
  """One model at one size of batch."""

  model: str
  batch: int  # rows a member
  input: int  # pieces, padded
  prompt: int  # virtual tokens


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is measured."""

  cases: tuple[Case, ...]
  members: tuple[int, ...]
  steps: int = 10  # of a job; 0 = no jobs
  repeats: int = 5


def plan(
  platform: str,
  *,
  models: Sequence[str] = (),
  batches: Sequence[int] = (),
  inputs: Sequence[int] = (),
  prompts: Sequence[int] = (),
  members: Sequence[int] = (),
  **rest: int,
) -> Plan:
  """What is asked for; where nothing is, what suits the platform.

  `inputs` and `prompts` go together, the first with the first.
  """
  on_cpu = platform == 'cpu'
  models = models or (('miniature', 'small') if on_cpu else ('base', 'large'))
  for name in models:
    config_lib.one_of('--shapes', name, shapes.NAMES)
  lengths = _lengths(inputs, prompts)
  cases = []
  for name in models:
    some = lengths or _usual_lengths(name, on_cpu)
    cases += [
      Case(name, batch, *length)
      for length in some
      for batch in batches or _usual_batches(name, on_cpu)
    ]
  members = members or ((5,) if on_cpu else (1, 2, 5, 10, 20))
  return Plan(tuple(cases), tuple(sorted(members)), **rest)


def _lengths(
  inputs: Sequence[int], prompts: Sequence[int]
) -> list[tuple[int, int]]:
  if inputs and prompts and len(inputs) != len(prompts):
    raise UserError(
      f'--input has {len(inputs)} lengths and --prompt {len(prompts)}; they '
      'go together, so give as many of both'
    )
  if not inputs and not prompts:
    return []
  return list(zip(inputs or [64] * len(prompts), prompts or [20] * len(inputs)))


def _usual_lengths(model: str, on_cpu: bool) -> list[tuple[int, int]]:
  if model == 'miniature':
    return [(48, 20)]
  return [(64, 20)] if on_cpu else [(64, 20), (256, 100)]


def _usual_batches(model: str, on_cpu: bool) -> tuple[int, ...]:
  # Of T5 small two rows: a pair then takes seconds on two cores.
  return (8, 32) if model == 'miniature' or not on_cpu else (2,)


class Side:
  """A population in training, as `loop` trains it."""

  def __init__(self, made: parts.Parts):
    self.made = made
    self._begin()
    self.batch = jax.device_put(next(self.batches()))

  def _begin(self) -> None:
    tuned, self.frozen = self.made.init()
    self.state = self.made.state(tuned)

  def batches(self, seed: int = 0) -> Iterator[population.Batch]:
    config = self.made.config
    rows = shapes.rows(
      8 * config.train.batch_size,
      length=config.input_length,
      target=TARGET,
      vocab_size=self.made.loaded.config.vocab_size,
    )
    return population.stack(
      [
        pipeline.train_batches(
          rows,
          batch_size=config.train.batch_size,
          buckets=config.buckets,
          seed=member.seed + seed,
        )
        for member in self.made.members
      ]
    )

  def steps(self, count: int) -> None:
    """So many updates on one batch, which lies on the device."""
    for _ in range(count):
      self._step(self.batch)
    jax.block_until_ready(self.state)

  def job(self, steps: int, seed: int = 0) -> None:
    """A run from its beginning: host and device, without files."""
    self._begin()
    flight = collections.deque()
    for batch in itertools.islice(self.batches(seed), steps):
      flight.append(self._step(batch))
      if len(flight) > self.made.config.train.in_flight:
        jax.device_get(flight.popleft())
    jax.device_get((self.state, list(flight)))

  def _step(self, batch: population.Batch) -> dict[str, jax.Array]:
    self.state, metrics = self.made.train_step(self.state, self.frozen, batch)
    return metrics

  def memory(self) -> tuple[int, int] | None:
    """(bytes of the weights, bytes of all else) of the compiled step."""
    lowered = self.made.train_step.lower(self.state, self.frozen, self.batch)
    found = lowered.compile().memory_analysis()
    if found is None:
      return None
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(self.frozen))
    return weights, total_bytes(found) - weights


def total_bytes(found: Any) -> int:
  """What a compiled function holds while it runs, by the compiler's word."""
  return (
    found.argument_size_in_bytes
    + found.output_size_in_bytes
    + found.temp_size_in_bytes
    - found.alias_size_in_bytes
  )


def sized(made: parts.Parts, case: Case, *, members: int, steps: int) -> Any:
  """The same model, for this case and so many members."""
  config = config_lib.update(
    made.config.copy_and_resolve_references(),
    {
      'population.seeds': members,
      'method.length': case.prompt,
      'train.batch_size': case.batch,
      'train.steps': max(1, steps),
      'input_length': case.input,
      'buckets': (case.input,),
    },
  )
  checks.check(config)
  made = made.of_method(config.method)
  return dataclasses.replace(made, config=config)


def run(
  plan: Plan,
  *,
  build: Callable[..., parts.Parts] = shapes.build,
  clock: Callable[[], float] = time.perf_counter,
  least: float = pairs.LEAST,
) -> dict[str, Any]:
  """Measures; returns {'steps': rows, 'jobs': rows}, see `_step_row`."""
  timing = {'repeats': plan.repeats, 'clock': clock, 'least': least}
  out = {'steps': [], 'jobs': []}
  for name, cases in itertools.groupby(plan.cases, lambda case: case.model):
    config = config_lib.miniature(config_lib.default())
    made = build(name, config)
    for number, case in enumerate(cases):
      of = {
        count: sized(made, case, members=count, steps=plan.steps)
        for count in {1, *plan.members}
      }
      one = Side(of[1])
      for count in plan.members:
        _tell(f'{words(case)}: {count} members')
        row = {**dataclasses.asdict(case), 'members': count}
        row['dtype'] = np.dtype(of[1].loaded.model.dtype).name
        try:
          many = Side(of[count])
          out['steps'].append(row | _step_row(one, many, count, timing))
          # On a model's first case, where the host's work weighs most.
          if plan.steps and not number and count > 1:
            job = _job_row(one, many, count, plan.steps, timing)
            out['jobs'].append(row | job)
        except jax.errors.JaxRuntimeError as error:
          if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
          out['steps'].append(row | {'failed': 'out of memory'})
          break  # more members need more
  return out


def _tell(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def words(case: Case) -> str:
  """The case, to be told."""
  return (
    f'{case.model}, batch {case.batch}, input {case.input}, prompt '
    f'{case.prompt}'
  )


def _step_row(
  one: Side, many: Side, members: int, timing: dict[str, Any]
) -> dict[str, Any]:
  """A step of all members against as many steps of one.

  'one' and 'all' are seconds a step, 'times' their ratio, pair by pair, which
  should be `members` at most; 'memory' is what the step of all holds over the
  weights and `members` times what else the step of one does.
  """
  found = pairs.measure(
    lambda times: one.steps(members * times), many.steps, **timing
  )
  one_s = [seconds / members for seconds in found.first]
  times = pairs.Range.of([s / o for o, s in zip(one_s, found.second)])
  seconds = pairs.Range.of(list(found.second))
  rows = members * one.made.config.train.batch_size
  return {
    'one': dataclasses.asdict(pairs.Range.of(one_s)),
    'all': dataclasses.asdict(seconds),
    'times': dataclasses.asdict(times),
    'examples_per_second': rows / seconds.median,
    **memory_row(one.memory(), many.memory(), members),
  }


def memory_row(
  one: tuple[int, int] | None, many: tuple[int, int] | None, members: int
) -> dict[str, Any]:
  """The bound is weights + members x the rest of one."""
  if one is None or many is None:
    return {'bytes': None, 'memory': None}
  weights, rest = one
  return {
    'bytes': sum(many),
    'memory': sum(many) / (weights + members * rest),
  }


def _job_row(
  one: Side, many: Side, members: int, steps: int, timing: dict[str, Any]
) -> dict[str, Any]:
  """All members in one job over one job after another, at most 1."""

  def in_turn(times: int) -> None:
    for seed in range(times * members):
      one.job(steps, seed % members)

  def together(times: int) -> None:
    for _ in range(times):
      many.job(steps)

  found = pairs.measure(in_turn, together, **timing)
  return {
    'steps': steps,
    'in_turn': dataclasses.asdict(pairs.Range.of(list(found.first))),
    'together': dataclasses.asdict(pairs.Range.of(list(found.second))),
    'times': dataclasses.asdict(found.ratio),
  }


def saturation(rates: dict[int, float]) -> int | None:
  """The fewest members that no larger number outdoes by GAIN.

  Args:
    rates: {members: examples a second}, of two numbers at least.

  Returns:
    None: the largest number is still that much faster than all below.
  """
  counts = sorted(rates)
  for i, count in enumerate(counts[:-1]):
    if max(rates[n] for n in counts[i:]) <= (1 + GAIN) * rates[count]:
      return count
  return None
