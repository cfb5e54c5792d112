"""Training on one task: resume, health, steps, evaluate, save.

Owns the order of things and what a signal does to it. What a step is, what a
batch is and what a file looks like is said elsewhere.
"""

import collections
import contextlib
import pathlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ptjax import evaluate, report, step, tree, tuned, writer
from ptjax.checkpoint import Checkpoints
from ptjax.config import UserError
from ptjax.data import split
from ptjax.export import prompt
from ptjax.parts import Parts
from ptjax.tasks.base import Task


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
    self.name = split.short(task)
    reported = split.reported(self.config)
    wanted = dict.fromkeys(('train', 'dev', reported))
    if self.config.eval.submission:
      wanted['test'] = None
    splits = split.load(self.config, task, list(wanted), parts.tokenizer)
    self.train, self.dev = splits['train'], splits['dev']
    self.reported, self.test = splits[reported], splits.get('test')
    evaluate.check(self.config, task, self.reported)
    # What names in the configuration stand for, which may change unseen.
    self.origin = {
      'model': parts.loaded.fingerprint,
      'data': split.digest(self.train, self.dev),
    }
    self.by = self.config.eval.by
    self.seconds = 0.0

  def run(self, stop: 'StopSignal') -> dict[str, Any]:
    """Trains to the end and returns the task's entry of results.json."""
    started = time.monotonic()
    seed = self.config.seed
    own, self.frozen = self.parts.init(labels=self.task.init_words, seed=seed)
    if not jax.tree.leaves(own):
      raise UserError(
        f'nothing trains by method.name={self.config.method.name} and '
        f'tune={tuple(self.config.tune)}; choose another method, or '
        '--mode=evaluate'
      )
    self.state = step.init_state(
      own, self.parts.tx, rng=jax.random.key(seed + 1)
    )
    self.checkpoints = Checkpoints(self.workdir / 'checkpoints' / self.name)
    before = tree.checksum(self.frozen)
    if self.checkpoints.latest() is None:
      self._health()
    else:
      self._resume()
    self.log.resume(self.name, step=int(self.state.step))
    try:
      self._loop(stop, started)
    finally:
      self.checkpoints.wait()
    if tree.checksum(self.frozen) != before:
      raise RunFailed('the frozen weights changed during the run')
    result = self._finish()
    result['seconds'] = round(self.seconds + time.monotonic() - started, 1)
    self.checkpoints.close()
    return result

  def _resume(self) -> None:
    self.state, position = self.checkpoints.restore(self.state)
    if position['step'] != int(self.state.step):
      raise RunFailed(
        f'the checkpoint of {self.name} holds step {int(self.state.step)} and '
        f'data position {position["step"]}'
      )
    for what, here in self.origin.items():
      if position[what] != here:
        raise UserError(
          f'--workdir={self.workdir} holds a run of {self.name} on another '
          f'{what} ({position[what][:16]} there, {here[:16]} here); name '
          f'another folder, or give that {what}'
        )
    self.seconds = position['seconds']
    self.log.say(f'{self.name}: resumed at step {int(self.state.step)}')

  def _health(self) -> None:
    """What can be known before step 1; ends a run that could not learn."""
    batch = next(self._batches(0))
    tuned.check_ports(
      self.parts.tuned_model, self.state.tuned, self.frozen, batch
    )
    # The step itself, on a copy, so that nothing is compiled for this alone.
    copy = jax.tree.map(jnp.copy, self.state)
    after, metrics = self.parts.train_step(copy, self.frozen, batch)
    norm = float(metrics['grad_norm'])
    health = {
      'tuned': tree.count(self.state.tuned),
      'frozen': tree.count(self.frozen),
      'loss': float(metrics['loss']),
      'grad_norm': norm,
      'majority': self._majority(),
      **self._untuned(),
    }
    self.log.event('health', health, task=self.name)
    self.log.say(
      report.health(self.name, health, train=self.train, dev=self.dev)
    )
    for remark in self.task.remarks([*self.train.examples, *self.dev.examples]):
      self.log.say(f'  {remark}')
    if not bool(after.ok):
      self._fail(metrics, at=1)
    if norm == 0:
      raise RunFailed(
        f'{self.name}: the gradient is zero at step 1, so nothing would be '
        f'learned; what trains is {", ".join(tree.flatten(self.state.tuned))}'
      )

  def _majority(self) -> float:
    answers = self.task.majority_answers(self.train.examples, self.dev.examples)
    return evaluate.scores(self.task, answers, self.dev)['score']

  def _untuned(self) -> dict[str, float]:
    """Scores of the frozen model alone, on the first examples of dev."""
    size = self.config.eval.untuned
    if not size:
      return {}
    few = self.dev.head(size)
    out = {}
    for by in ('generate', *(['rank'] if evaluate.rankable(few) else [])):
      answers = evaluate.answer(
        self.parts, self.state.tuned, self.frozen, few, by=by, prompted=False
      )
      out[f'untuned_{by}'] = evaluate.scores(self.task, answers, few)['score']
    return out

  def _batches(self, start: int) -> Iterator[dict[str, np.ndarray]]:
    return self.train.train_batches(
      batch_size=self.config.train.batch_size,
      seed=self.config.seed,
      start_step=start,
    )

  def _loop(self, stop: 'StopSignal', started: float) -> None:
    train, step_now = self.config.train, int(self.state.step)
    flight = collections.deque()
    with self.log.progress(
      self.name, total=train.steps, start=step_now, batch=train.batch_size
    ) as bar:
      batches = self._batches(step_now)
      while step_now < train.steps and not self._stale():
        self.state, metrics = self.parts.train_step(
          self.state, self.frozen, next(batches)
        )
        step_now += 1
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
        if saves:
          self._save(step_now, started)
        if asked and not ends:
          self.checkpoints.wait()
          raise Stopped(
            f'{self.name}: stopped by {asked} at step {step_now}, saved; '
            f'the same command with --workdir={self.workdir} goes on from there'
          )

  def _note(self, bar: Any, at: int, metrics: dict[str, jax.Array]) -> None:
    values = {k: float(v) for k, v in metrics.items()}
    bar.update(at, loss=values['loss'])
    if not np.isfinite([values[k] for k in step.FINITE]).all():
      self._fail(values, at=at)
    if at % self.config.train.log_every == 0:
      self.log.scalars(at, values, task=self.name)

  def _fail(self, metrics: dict[str, Any], *, at: int) -> None:
    # The step kept the state from before it: that is the last good one.
    good = int(self.state.step)
    if good:
      # Tried again, it is judged again.
      state = self.state.replace(ok=jnp.bool_(True))
      self.checkpoints.save(good, state, self._position(good, 0.0))
    what = ', '.join(f'{k} {float(metrics[k]):.4g}' for k in step.FINITE)
    raise RunFailed(
      f'{self.name}: {what} at step {at} is not finite; the state of step '
      f'{good} is kept; try a lower optimizer.lr, or dtype=float32'
    )

  def _evaluate(self, bar: Any, at: int) -> None:
    answers = evaluate.answer(
      self.parts, self.state.tuned, self.frozen, self.dev, by=self.by
    )
    found = evaluate.scores(self.task, answers, self.dev)
    self.state = step.note_score(self.state, found['score'])
    values = {f'dev/{k}': v for k, v in found['metrics'].items()}
    values |= {'dev/score': found['score'], 'dev/invalid': found['invalid']}
    self.log.scalars(at, values, task=self.name)
    bar.note(dev=found['score'])
    if int(self.state.best_step) == at:
      self._write_prompt()

  def _write_prompt(self) -> None:
    loaded = self.parts.loaded
    # The method's own parameters belong to it even where `tune` froze them.
    own = {k: v for k, v in self.frozen.items() if k != 'model'}
    prompt.write(
      self.workdir / 'prompts' / f'{self.name}.safetensors',
      tree.join(self.state.best, own),
      {
        'model': {'name': loaded.name, 'fingerprint': loaded.fingerprint},
        'method': self.config.method.to_dict(),
        'task': self.task.name,
        'step': int(self.state.best_step),
        'dev_score': float(self.state.best_score),
      },
    )

  def _stale(self) -> bool:
    patience = self.config.train.patience
    return bool(patience) and int(self.state.stale) >= patience

  def _position(self, at: int, started: float) -> dict[str, Any]:
    spent = time.monotonic() - started if started else 0.0
    return {'step': at, 'seconds': self.seconds + spent, **self.origin}

  def _save(self, at: int, started: float) -> None:
    self.checkpoints.save(at, self.state, self._position(at, started))

  def _finish(self) -> dict[str, Any]:
    """Scores of the best prompt on the reported split."""
    self._write_prompt()
    return evaluate.final(
      self.parts,
      self.task,
      self.state.best,
      self.frozen,
      self.reported,
      folder=self.workdir,
      step=int(self.state.best_step),
    )


class StopSignal:
  """SIGTERM or Ctrl-C, noted; the loop ends at the next step.

  A second one ends the process at once, as if nobody listened.
  """

  def __init__(self):
    self.asked = ''

  @contextlib.contextmanager
  def listen(self) -> Iterator['StopSignal']:
    def note(number, _):
      self.asked = signal.Signals(number).name
      signal.signal(number, signal.SIG_DFL)

    numbers = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
      numbers = ()  # Python lets no other thread listen
    before = {n: signal.signal(n, note) for n in numbers}
    try:
      yield self
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)
