"""What can be known of a task's training before its first update.

Owns whether a population fits, what a first step of it would do, and what the
frozen model scores alone. What follows from that is for `loop` to say.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ptjax import evaluate, memory, mesh, side_by_side, step, tree, vitals
from ptjax.config import AUTO
from ptjax.data.split import Split
from ptjax.parts import Parts
from ptjax.tasks.base import Task
from ptjax.tuned import base as tuned_base


def check_memory(parts: Parts, train: Split, *, task: str) -> None:
  """A population that cannot fit is told before anything is compiled.

  Raises:
    UserError: see `memory.check`.
  """
  config, members = parts.config, len(parts.members)
  longest = train.buckets[-1]
  if side_by_side.at_once(members, config.train.batch_size * longest) < members:
    return  # a few at a time: of the others nothing is held but prompts
  memory.check(
    members,
    each=parts.member_bytes(
      length=longest, target=train.target_length, remat=parts.least
    ),
    weights=mesh.bytes_on_one(parts.loaded.params),
    limit_gib=config.population.memory,
    task=task,
    remat=parts.least,
  )


def keeps(parts: Parts, state: step.TrainState, train: Split) -> str:
  """What is said where layers keep less than they would with more memory."""
  if parts.config.remat != AUTO:
    return ''
  rows, longest = parts.config.train.batch_size, train.buckets[-1]

  def ids(length: int) -> jax.ShapeDtypeStruct:
    shape = (len(parts.members), rows, length)
    return jax.ShapeDtypeStruct(shape, jnp.int32)

  batch = {'inputs': ids(longest), 'targets': ids(train.target_length)}
  found = parts.remat(state, batch)
  if found == 'products':
    return ''
  return (
    f'inputs of {longest} pieces train with remat={found}, for want of memory '
    f'({parts.room / memory.GIB:.1f} GiB; population.memory)'
  )


def first_step(
  parts: Parts, state: step.TrainState, frozen: Any, batch: Any
) -> tuple[vitals.Values, np.ndarray]:
  """(numbers of a step that is not kept, which members it would move: [E]).

  Raises:
    RuntimeError: a method fills a port that the model does not read.
  """
  tuned_base.check_ports(
    *(parts.tuned_model, tree.at(state.tuned, 0)),
    *(frozen, tree.at(batch, 0)),
  )
  # The step itself, on a copy, so that nothing is compiled for this alone.
  copy = jax.tree.map(jnp.copy, state)
  after, metrics = parts.train_step(copy, frozen, batch)
  return vitals.read(metrics), np.asarray(after.ok)


def majority(task: Task, train: Split, dev: Split) -> float:
  """The score on dev of the commonest answers of the training split."""
  answers = task.majority_answers(train.examples, dev.examples)
  return evaluate.scores(task, answers, dev)['score']


def untuned(
  parts: Parts, task: Task, tuned: Any, *, frozen: Any, dev: Split
) -> dict[str, float]:
  """Scores of the frozen model alone, on the first examples of dev."""
  size = parts.config.eval.untuned
  if not size:
    return {}
  few = dev.head(size)
  first = jax.tree.map(lambda x: x[:1], tuned)  # which prompted=False ignores
  out = {}
  for by in ('generate', *(['rank'] if evaluate.rankable(few) else [])):
    answers = evaluate.answer(parts, first, frozen, few, by=by, prompted=False)
    found = evaluate.scores(task, answers.ensemble, few)
    out[f'untuned_{by}'] = found['score']
  return out
