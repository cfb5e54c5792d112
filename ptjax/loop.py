"""Training on one task: resume, health, steps, evaluate, save.

Owns the order of things and what a signal does to it. All members of the
population go through it together; one that fails leaves the others. What a step
is, what a batch is and what a file looks like is said elsewhere.
"""

import collections
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from ptjax import (
  best,
  compiled,
  evaluate,
  health,
  population,
  profile,
  report,
  step,
  tree,
  vitals,
  writer,
)
from ptjax.checkpoint import Checkpoints
from ptjax.config import UserError
from ptjax.data import split
from ptjax.parts import Parts
from ptjax.stop import StopSignal
from ptjax.tasks.base import Task, short


class RunFailed(Exception):
  """The run cannot go on; the last good state is saved. Exit code 1."""


class Stopped(Exception):
  """Asked to stop; the state is saved. Exit code 1."""


class TaskRun:
  """One task of a run: its data, state and checkpoints."""

  def __init__(
    self, parts: Parts, task: Task, workdir: pathlib.Path, log: writer.Writer
  ):
    self.parts, self.task, self.workdir, self.log = parts, task, workdir, log
    self.config = parts.config
    self.name = short(task)
    reported = split.reported(self.config)
    wanted = dict.fromkeys(('train', 'dev', reported))
    if self.config.eval.submission:
      wanted['test'] = None
    splits = split.load(
      self.config, task, list(wanted), parts.tokenizer, causal=parts.causal
    )
    self.train, self.dev = splits['train'], splits['dev']
    self.reported, self.test = splits[reported], splits.get('test')
    evaluate.check(parts, task, self.reported)
    health.check_memory(parts, self.train, task=self.name)
    # What names in the configuration stand for, which may change unseen.
    self.origin = {
      'model': parts.loaded.fingerprint,
      'data': split.digest(self.train, self.dev),
    }
    self.by = self.config.eval.by
    # Perplexity is what models of text are told by; an encoder-decoder's is in
    # the files alone.
    self.shown = ('loss', *(['perplexity'] if parts.causal else []))
    self.seconds = 0.0
    self.failed: dict[int, str] = {}  # members, and why
    # Steps in front of which the training step was compiled for new lengths.
    self.compiled: list[int] = []

  def run(self, stop: StopSignal) -> dict[str, Any]:
    """Trains to the end and returns the task's entry of results.json."""
    started = time.monotonic()
    own, self.frozen = self.parts.init(
      labels=self.task.init_words, tasks=self.train.tasks_mixed
    )
    if not jax.tree.leaves(own):
      raise UserError(
        f'nothing trains by method.name={self.config.method.name} and '
        f'tune={tuple(self.config.tune)}; choose another method, or '
        '--mode=evaluate'
      )
    self.state = self.parts.state(own)
    if said := health.keeps(self.parts, self.state, self.train):
      self.log.say(f'{self.name}: {said}')
    self.checkpoints = Checkpoints(self.workdir / 'checkpoints' / self.name)
    before = tree.checksum(self.frozen)
    if self.checkpoints.latest() is None:
      self._health()
    else:
      self._resume()
    began = self._step
    self.log.resume(self.name, step=began)
    try:
      self._loop(stop, started)
    finally:
      self.checkpoints.wait()
    self._tell_compiled(began)
    if tree.checksum(self.frozen) != before:
      raise RunFailed('the frozen weights changed during the run')
    result = self._finish()
    result['seconds'] = round(self.seconds + time.monotonic() - started, 1)
    self.checkpoints.close()
    return result

  def _resume(self) -> None:
    self.state, position = self.checkpoints.restore(self.state)
    if position['step'] != self._step:
      raise RunFailed(
        f'the checkpoint of {self.name} holds step {self._step} and data '
        f'position {position["step"]}'
      )
    for what, here in self.origin.items():
      if position[what] != here:
        raise UserError(
          f'--workdir={self.workdir} holds a run of {self.name} on another '
          f'{what} ({position[what][:16]} there, {here[:16]} here); name '
          f'another folder, or give that {what}'
        )
    self.seconds = position['seconds']
    self.failed = {int(i): why for i, why in position['failed'].items()}
    self.log.say(f'{self.name}: resumed at step {position["step"]}')

  @property
  def _step(self) -> int:
    """Updates done: those of the members that still go."""
    return int(np.max(self.state.step))

  def _health(self) -> None:
    """Says what is known before step 1; ends a run that could not learn."""
    self.compiled.append(1)  # for the first batch, here
    values, ok_E = health.first_step(
      self.parts, self.state, self.frozen, next(self.batches(0))
    )
    known = {
      'tuned': tree.count(tree.at(self.state.tuned, 0)),
      'frozen': tree.count(self.frozen),
      'loss': values['loss'],
      'grad_norm': values['grad_norm'],
      'majority': health.majority(self.task, self.train, self.dev),
      **health.untuned(
        *(self.parts, self.task, self.state.tuned),
        frozen=self.frozen,
        dev=self.dev,
      ),
    }
    self.log.event('health', known, task=self.name)
    self.log.say(
      report.health(self.name, known, train=self.train, dev=self.dev)
    )
    seen = [*self.train.examples, *self.dev.examples]
    for remark in (*self.task.remarks(seen), *self.train.remarks):
      self.log.say(f'  {remark}')
    if not np.any(ok_E):
      self._fail(values, at=1)
    if 0 in values['grad_norm']:
      raise RunFailed(
        f'{self.name}: the gradient{self._of(values["grad_norm"].index(0))} is '
        'zero at step 1, so nothing would be learned; what trains is '
        f'{", ".join(tree.flatten(self.state.tuned))}'
      )

  def batches(self, start: int) -> Iterator[dict[str, np.ndarray]]:
    """Each member's own order of the examples, side by side."""
    streams = [
      self.train.train_batches(
        batch_size=self.config.train.batch_size,
        seed=member.seed,
        start_step=start,
        share=self.parts.layout.share,
      )
      for member in self.parts.members
    ]
    return population.stack(streams)

  def _loop(self, stop: StopSignal, started: float) -> None:
    train, step_now = self.config.train, self._step
    flight = collections.deque()
    bar = self.log.progress(
      self.name,
      total=train.steps,
      start=step_now,
      batch=train.batch_size * len(self.parts.members),
    )
    folder = self.workdir / 'profile' / self.name
    trace = profile.Trace(self.config.profile, folder, say=self.log.say)
    programs = compiled.programs()
    with bar as bar, trace:
      batches, over = self.batches(step_now), self._over()
      while step_now < train.steps and not over:
        batch, before = next(batches), programs.count
        self.state, metrics = trace(
          self.parts.train_step, self.state, self.frozen, batch
        )
        step_now += 1
        self.compiled += [step_now] * (programs.count > before)
        flight.append((step_now, metrics))
        ends = step_now == train.steps
        evaluates = ends or step_now % train.eval_every == 0
        asked = stop.asked  # once: a signal may come at any line below
        saves = evaluates or step_now % train.save_every == 0 or bool(asked)
        # Read late, so that the device never waits for the host; but never
        # more than in_flight steps late, which also bounds what is queued.
        while flight and (saves or len(flight) > train.in_flight):
          self._note(bar, *flight.popleft())
        if evaluates:
          self._evaluate(bar, step_now)
          over = self._over()
        if saves:
          self._save(step_now, started)
        if asked and not ends:
          self.checkpoints.settle()
          raise Stopped(
            f'{self.name}: stopped by {asked} at step {step_now}, saved; '
            f'the same command with --workdir={self.workdir} goes on from there'
          )

  def _tell_compiled(self, began: int) -> None:
    """Whether lengths were met late, each of which stops all for seconds."""
    epoch = -(-len(self.train) // self.config.train.batch_size)
    late = [at for at in self.compiled if at > began + epoch]
    self.log.say(report.compiled(self.name, self.compiled, late))

  def _note(self, bar: Any, at: int, metrics: dict[str, jax.Array]) -> None:
    values = vitals.read(metrics)
    for i in vitals.broken(values):
      if i not in self.failed:
        self._note_failure(i, f'{vitals.said(values, i)} at step {at}')
    if len(self.failed) == len(self.parts.members):
      self._fail(values, at=at)
    scalars = vitals.scalars(values)
    bar.update(at, **{name: scalars[name] for name in self.shown})
    if at % self.config.train.log_every == 0:
      self.log.scalars(at, scalars, task=self.name)

  def _note_failure(self, i: int, why: str) -> None:
    """The step holds it at its last good state; the others go on."""
    self.failed[i] = why
    if len(self.parts.members) > 1:
      self.log.say(
        f'{self.name}: member {i} ({best.described(self.parts, i)}) goes no '
        f'further: {why}'
      )

  def _fail(self, values: vitals.Values, *, at: int) -> None:
    # The step kept the state from before it: that is the last good one.
    good, last = self._step, vitals.broken(values)[-1]
    if good:
      # Tried again, it is judged again.
      self.failed = {}
      ok = np.ones(self.state.ok.shape, bool)
      state = self.parts.layout.replicate(self.state.replace(ok=ok))
      self.checkpoints.save(good, state, self._position(good, 0.0))
      self.checkpoints.settle()
    raise RunFailed(
      f'{self.name}: {vitals.said(values, last)} at step {at} is not finite'
      f'{self._of(last)}; the state of step {good} is kept; try a lower '
      'optimizer.lr, or dtype=float32'
    )

  def _evaluate(self, bar: Any, at: int) -> None:
    answers = evaluate.answer(
      self.parts, self.state.tuned, self.frozen, self.dev, by=self.by
    )
    found = evaluate.all_scores(self.task, answers, self.dev)
    each = found['members']
    score_E = np.asarray([m['score'] for m in each], np.float32)
    noted = step.note_score(self.state, score_E)
    self.state = self.parts.layout.replicate(noted)
    values = {
      f'dev/{name}': [m['metrics'][name] for m in each]
      for name in each[0]['metrics']
    }
    values['dev/score'] = [m['score'] for m in each]
    values['dev/invalid'] = [m['invalid'] for m in each]
    scalars = vitals.scalars(values)
    if len(each) > 1:
      scalars['dev/ensemble'] = found['ensemble']['score']
    self.log.scalars(at, scalars, task=self.name)
    bar.note(dev=scalars['dev/score'])
    self._write_prompts(at=at)

  def _write_prompts(self, *, at: int | None = None) -> list[dict[str, Any]]:
    """Writes them, `at` only those whose best is of that step; says of whom."""
    known = best.members(self.parts, self.state, self.failed)
    best.write(
      *(self.parts, self.task, self.state),
      frozen=self.frozen,
      known=known,
      folder=self.workdir / 'prompts',
      at=at,
    )
    return known

  def _of(self, i: int) -> str:
    return f' of member {i}' if len(self.parts.members) > 1 else ''

  def _over(self) -> bool:
    """Whether no member goes any further. Waits for the device."""
    stopped = step.stopped(self.state, self.config.train.patience)
    return bool(np.all(stopped | ~self.state.ok))

  def _position(self, at: int, started: float) -> dict[str, Any]:
    spent = time.monotonic() - started if started else 0.0
    failed = {str(i): why for i, why in self.failed.items()}
    return {
      'step': at,
      'seconds': self.seconds + spent,
      'failed': failed,
      **self.origin,
    }

  def _save(self, at: int, started: float) -> None:
    self.checkpoints.save(at, self.state, self._position(at, started))

  def _finish(self) -> dict[str, Any]:
    """Scores of the best prompts on the reported split."""
    members = self._write_prompts()
    return evaluate.final(
      self.parts,
      self.task,
      self.state.best,
      self.frozen,
      self.reported,
      folder=self.workdir,
      members=members,
    )
