"""Prompt tuning of a decoder-only model against PEFT: time and memory.

Owns what is compared, at which sizes, that both sides say the same, and how
much faster ptjax should be. Each side is a file beside this.
"""

import dataclasses
import itertools
import multiprocessing
import os
import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ptjax import config as config_lib
from ptjax.bench import operations, our_side, pairs, peft_side, random_gpt
from ptjax.config import UserError

LABEL = 3  # pieces of an answer, the last of a row
ANSWER = 32  # pieces generated
# A step that trains on all pieces, on the answer; one that scores the answer;
# a whole answer, greedy.
WORKS = ('train-text', 'train-label', 'evaluate', 'generate')
DTYPES = ('float32', 'bfloat16')
# By how much two sums of the same numbers may differ.
CLOSE = {'float32': 1e-4, 'bfloat16': 3e-2}


@dataclasses.dataclass(frozen=True, order=True)
class Case:
  """One model in one dtype at one size of batch."""

  model: str
  dtype: str
  prompt: int  # virtual tokens
  batch: int  # rows
  input: int  # pieces, the same for all rows


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is measured."""

  cases: tuple[Case, ...]
  works: tuple[str, ...] = WORKS
  repeats: int = 5
  memory: bool = True  # of training, each side in a process of its own


def plan(
  platform: str,
  *,
  models: Sequence[str] = (),
  dtypes: Sequence[str] = (),
  prompts: Sequence[int] = (),
  batches: Sequence[int] = (),
  inputs: Sequence[int] = (),
  works: Sequence[str] = (),
  **rest: Any,
) -> Plan:
  """What is asked for; where nothing is, what suits the platform."""
  on_cpu = platform == 'cpu'
  models = models or ('pythia-70m', *(() if on_cpu else ('pythia-1.4b',)))
  # PEFT's bfloat16 takes minutes a step on a CPU without units for it.
  dtypes = dtypes or (('float32',) if on_cpu else DTYPES)
  for name in models:
    config_lib.one_of('--shapes', name, tuple(random_gpt.PYTHIA))
  for name in dtypes:
    config_lib.one_of('--dtype', name, DTYPES)
  for name in works:
    config_lib.one_of('--works', name, WORKS)
  for length in inputs:
    if length <= LABEL:
      raise UserError(
        f'--input={length} must hold an answer of {LABEL} pieces and a piece '
        'in front of it'
      )
  cases = itertools.product(
    models, dtypes, prompts or (8, 100), batches or (8, 32), inputs or (32, 64)
  )
  return Plan(
    tuple(itertools.starmap(Case, cases)), tuple(works) or WORKS, **rest
  )


def at_least(platform: str, case: Case, work: str) -> float | None:
  """How many times PEFT's speed is aimed at; None = not said."""
  on_cpu = platform == 'cpu'
  if on_cpu and case.dtype == 'bfloat16':
    return 1.0
  size = case.batch, case.input, case.prompt
  if work == 'train-label' and case.prompt == 8:
    return 1.5
  if size == (32, 32, 100) and work.startswith('train'):
    return 6.0 if on_cpu and work == 'train-label' else 4.0
  return None


MEMORY = 0.5  # of PEFT's peak, at most


def works_of(case: Case, work: str) -> tuple[operations.Work, ...]:
  """(what ptjax computes, what PEFT does) of one call, in one `Work` each."""
  B, L, P = case.batch, case.input, case.prompt
  size = {'batch': B, 'prompt': P}
  if work == 'generate':
    # PEFT's library leaves out the head where nothing is to be said, too.
    starts = [
      of(**size, length=L, said=1)
      for of in (operations.once, operations.in_every_row)
    ]
    more = ANSWER - 1
    rest = [
      # A cache has its last length from the start; PEFT's grows.
      operations.decoding(batch=B, keys=P + L + ANSWER, steps=more),
      operations.decoding(batch=B, keys=P + L + (ANSWER + 1) // 2, steps=more),
    ]
    return tuple(
      operations.Work(*map(sum, zip(_flat(start), _flat(end))))
      for start, end in zip(starts, rest)
    )
  said = L if work == 'train-text' else LABEL
  return (
    operations.once(**size, length=L - 1, said=said),
    operations.in_every_row(**size, length=L, said=P + L),
  )


def _flat(work: operations.Work) -> tuple[int, ...]:
  return dataclasses.astuple(work)


def count(case: Case, work: str) -> tuple[int, int]:
  """Operations of one call, (ptjax's, PEFT's)."""
  config = random_gpt.PYTHIA[case.model]
  both = works_of(case, work)
  if work.startswith('train'):
    return tuple(each.train(config) for each in both)
  return tuple(each.forward(config) for each in both)


def call(side: Any, case: Case, work: str) -> Callable[[], Any]:
  """One piece of work as a function without arguments."""
  rng = np.random.default_rng(case.batch * case.input)
  vocab_size = random_gpt.PYTHIA[case.model].vocab_size
  ids_BxL = rng.integers(1, vocab_size, (case.batch, case.input))
  ids_BxL = ids_BxL.astype(np.int32)
  if work == 'generate':
    return lambda: side.generate(ids_BxL, ANSWER)
  if work == 'evaluate':
    return lambda: side.evaluate(ids_BxL, LABEL)
  said = case.input if work == 'train-text' else LABEL
  return lambda: side.train(ids_BxL, said)


def run(
  plan: Plan,
  *,
  peer: Any = None,
  clock: Callable[[], float] = time.perf_counter,
  least: float = pairs.LEAST,
) -> dict[str, Any]:
  """Measures; returns {'missing': a sentence or '', 'rows': see `_row`}.

  Args:
    peer: what stands for PEFT's side, a class with the methods of
      `peft_side.Peft`.

  Raises:
    RuntimeError: the two sides do not say the same.
  """
  missing = '' if peer else peft_side.missing()
  peer = peer or (None if missing else peft_side.Peft)
  timing = {'repeats': plan.repeats, 'clock': clock, 'least': least}
  rows = []
  with tempfile.TemporaryDirectory(prefix='ptjax-bench-') as room:
    groups = itertools.groupby(
      plan.cases, lambda case: (case.model, case.dtype, case.prompt)
    )
    for (name, dtype, prompt), cases in groups:
      folder = pathlib.Path(room) / name
      if not folder.exists():
        folder.mkdir()
        random_gpt.write(folder, random_gpt.PYTHIA[name])
      ours = our_side.Ours(our_side.build(folder, dtype=dtype, prompt=prompt))
      theirs = _theirs(peer, folder, dtype, ours)
      for case, work in itertools.product(list(cases), plan.works):
        _tell(f'{words(case)}: {work}')
        row = _row(case, work, ours, theirs, timing)
        if plan.memory and work.startswith('train'):
          row |= _memory(folder, case, work, peer)
        rows.append(row)
  return {'missing': missing, 'rows': rows}


def _theirs(peer: Any, folder: pathlib.Path, dtype: str, ours: Any) -> Any:
  if peer is None:
    return None
  return peer(
    folder,
    dtype=dtype,
    prompt_PxD=ours.prompt_PxD,
    device='cpu' if jax.default_backend() == 'cpu' else 'cuda',
  )


def words(case: Case) -> str:
  """A case for a person."""
  return (
    f'{case.model}, {case.dtype}, batch {case.batch}, input {case.input}, '
    f'prompt {case.prompt}'
  )


def _tell(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def _row(
  case: Case, work: str, ours: Any, theirs: Any, timing: dict[str, Any]
) -> dict[str, Any]:
  """One work of one case.

  'ours' and 'theirs' are seconds a call, 'times' their ratio, pair by pair;
  'same' is by how much the two answers differ; 'operations' and 'rate', a
  second, as `operations` counts them; 'load' that of the machine.
  """
  out = {**dataclasses.asdict(case), 'work': work}
  out['load'] = os.getloadavg()[0] if hasattr(os, 'getloadavg') else None
  out['at_least'] = at_least(jax.default_backend(), case, work)
  out['operations'], out['theirs_operations'] = count(case, work)
  out['rate'] = operations.rate(case.dtype, clock=timing['clock'])
  mine = call(ours, case, work)
  if theirs is None:
    seconds = pairs.measure(*[_loop(ours, mine)] * 2, **timing).first
    return out | _seconds('ours', seconds)
  other = call(theirs, case, work)
  # From the same start: a side that was trained says something else.
  ours.begin()
  theirs.begin()
  out['same'] = compare(case, work, ours.wait(mine()), theirs.wait(other()))
  found = pairs.measure(_loop(ours, mine), _loop(theirs, other), **timing)
  return {
    **out,
    **_seconds('ours', found.first),
    **_seconds('theirs', found.second),
    'times': dataclasses.asdict(found.ratio),
  }


def _seconds(name: str, values: Sequence[float]) -> dict[str, Any]:
  return {name: dataclasses.asdict(pairs.Range.of(list(values)))}


def _loop(side: Any, one: Callable[[], Any]) -> pairs.Side:
  def loop(times: int) -> None:
    for value in [one() for _ in range(times)]:
      side.wait(value)

  return loop


def compare(case: Case, work: str, ours: Any, theirs: Any) -> float:
  """By how much the sides differ, relatively; of tokens, the share that does.

  Raises:
    RuntimeError: by more than rounding, so that no ratio would mean anything.
      Of tokens that is one in float32; in bfloat16 near ties go either way.
  """
  if work == 'generate':
    same = np.asarray(ours).reshape(np.shape(theirs)) == np.asarray(theirs)
    found = float(1 - same.mean())
    limit = 1.0 if case.dtype == 'bfloat16' else 0.0
  else:
    if work == 'evaluate':
      sums, tokens = ours
      ours = -np.sum(sums) / np.sum(tokens)
    ours, theirs = np.ravel(ours), np.ravel(theirs)
    found = float(np.max(np.abs(ours - theirs) / np.abs(theirs)))
    limit = CLOSE[case.dtype]
  if not found <= limit:
    raise RuntimeError(
      f'{words(case)}, {work}: the sides differ by {found:.2g}, more than '
      f'{limit:.2g}: {ours} here, {theirs} there'
    )
  return found


def _memory(
  folder: pathlib.Path, case: Case, work: str, peer: Any
) -> dict[str, Any]:
  """Peak bytes of each side, in a process that runs nothing else."""
  out = {'bytes': _in_a_process(_peak, folder, case, work, None)}
  if peer is not None:
    out['theirs_bytes'] = _in_a_process(_peak, folder, case, work, peer)
  return out


def _in_a_process(function: Callable, *args: Any) -> Any:
  context = multiprocessing.get_context('spawn')
  with context.Pool(1) as pool:
    return pool.apply(function, args)


def _peak(folder: pathlib.Path, case: Case, work: str, peer: Any) -> int:
  """Of three calls, with all that a process needs for them."""
  if peer is None:
    made = our_side.build(folder, dtype=case.dtype, prompt=case.prompt)
    side = our_side.Ours(made)
  else:
    width = random_gpt.PYTHIA[case.model].d_model
    prompt = np.zeros((case.prompt, width), np.float32)
    device = 'cpu' if jax.default_backend() == 'cpu' else 'cuda'
    side = peer(folder, dtype=case.dtype, prompt_PxD=prompt, device=device)
  one = call(side, case, work)
  for _ in range(3):
    side.wait(one())
  return side.peak_bytes() or process_peak()


def process_peak() -> int:
  """The most bytes this process had in memory."""
  try:
    # Of this program alone; rusage begins with what its parent had.
    lines = pathlib.Path('/proc/self/status').read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith('VmHWM'))
    return int(peak) * 1024
  except OSError:
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
