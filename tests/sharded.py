"""A short job on a mesh, and all its numbers: what every mesh must agree on.

`python -m tests.sharded '{"room": …, "mesh": […], "out": FILE, …}'` runs it in
this process, over as many devices as XLA_FLAGS says.
"""

import dataclasses
import json
import pathlib
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from flax.core import meta
from goldens import causal_models

from ptjax import (
  assemble,
  checkpoint,
  checks,
  cross_entropy,
  population,
  side_by_side,
)
from ptjax import config as config_lib
from ptjax.data import split
from ptjax.plan import hlo, steps
from ptjax.weights import load, save

# Heads for eight devices, widths that are no powers of two.
T5 = tiny.changed(num_heads=8, d_ff=40, vocab_size=64)
# Like GPT-2's own, a vocabulary that divides by nothing; and one that is cut.
CAUSAL = {
  'gpt2': ('gpt2', {'d_model': 24, 'head_size': 3}),
  'neox': (
    'pythia',
    {'d_model': 32, 'head_size': 4, 'rotary_size': 2, 'vocab_size': 64},
  ),
  # Two queries a key; a vocabulary that two divide, and no more.
  'llama': (
    'llama',
    {'d_model': 24, 'num_heads': 16, 'num_kv_heads': 8, 'vocab_size': 62},
  ),
}
STEPS = 10
SAVED = 4  # at which a checkpoint is written


def make_room(room: pathlib.Path) -> pathlib.Path:
  """The models and the data of the job."""
  tiny.model_folder(room / 't5', T5)
  for name, (case, sizes) in CAUSAL.items():
    made = load.load(str(causal_models.FOLDER / case))
    sizes = {'num_heads': 8, 'd_ff': 40, **sizes}
    own = dataclasses.replace(made.config, **sizes)
    ids = jnp.zeros((1, 4), jnp.int32)
    init = jax.jit(made.model.clone(config=own).init)
    params = meta.unbox(init(jax.random.key(0), ids, ids >= 0))['params']
    # Wider than a new one's: else all answers are alike.
    params = jax.tree.map(lambda x: x + 9 * (x - x.mean()), params)
    tiny.gpt_folder(room / name)
    save.save(room / name, params, own)
  tiny.data_folder(room / 'data', rows=20)
  return room


def config(room: pathlib.Path, mesh=(-1, 1, 1), **changes):
  values = {
    'model': str(room / 't5'),
    'data': str(room / 'data'),
    'task': 'cb',
    'method.length': 5,
    'method.init': 'vocabulary',
    'optimizer.lr': 0.03,
    'train.batch_size': 8,
    'train.steps': STEPS,
    'train.dropout': 0.1,
    'eval.batch_size': 8,
    'buckets': (24,),
    'population.seeds': 2,
    **{f'mesh.{a}': n for a, n in zip(('data', 'fsdp', 'tensor'), mesh)},
  }
  return config_lib.update(config_lib.default(), {**values, **changes})


def run(c, saved: str = '') -> dict[str, np.ndarray]:
  """Loss, gradient, ten steps, greedy ids and rank scores of two members.

  Args:
    saved: folder of a checkpoint on the way; '' = none.
  """
  with _side_by_side():
    return _run(c, saved)


def resumed(c, saved: str) -> dict[str, np.ndarray]:
  """The steps behind that checkpoint, and the prompts at their end."""
  with _side_by_side():
    made, splits, (tuned, frozen) = _begun(c)
    state, _ = _checkpoints(saved).restore(made.state(tuned))
    assert (np.asarray(state.step) == SAVED).all()
    state, steps = _steps(made, state, frozen, splits['train'])
    return {'steps': steps, 'tuned': trained(state.tuned)}


def _side_by_side():
  # As on an accelerator. What else this process tests is not.
  return mock.patch.object(side_by_side, 'at_once', lambda members, _: members)


def _begun(c):
  checks.check(c)
  made = assemble.parts(c)
  (task,) = split.tasks(c)
  return made, _load(made, task), made.init(labels=task.init_words)


def _run(c, saved: str) -> dict[str, np.ndarray]:
  made, splits, (tuned, frozen) = _begun(c)
  first = next(train_batches(made, splits['train']))
  # Now: the step donates its state.
  out = {'start': trained(tuned)}
  out['loss'], out['gradient'] = gradient(made, tuned, frozen, first)
  state, out['steps'] = _steps(
    made, made.state(tuned), frozen, splits['train'], saved
  )
  out['tuned'] = trained(state.tuned)
  rows = {'batch_size': c.eval.batch_size, 'with_choices': True}
  for number, batch in enumerate(splits['dev'].eval_batches(**rows)):
    ids = made.answers(state.tuned, frozen, batch, max_length=6)
    nats, _ = made.choices(state.tuned, frozen, batch)
    out |= {f'ids/{number}': ids, f'nats/{number}': nats}
  return {name: np.asarray(value) for name, value in out.items()}


def _checkpoints(folder: str):
  return checkpoint.Checkpoints(pathlib.Path(folder))


def trained(tuned) -> np.ndarray:
  """All that trains, a row for each member."""
  leaves = (np.asarray(leaf) for leaf in jax.tree.leaves(tuned))
  return np.concatenate([x.reshape(len(x), -1) for x in leaves], axis=1)


def _steps(made, state, frozen, data, saved: str = ''):
  """(state at step STEPS, what each step said)."""
  start, said = int(np.asarray(state.step)[0]), []
  for at, batch in zip(range(start, STEPS), train_batches(made, data, start)):
    if saved and at == SAVED:
      kept = _checkpoints(saved)
      kept.save(at, state, {})
      kept.wait()
    state, metrics = made.train_step(state, frozen, batch)
    said.append(np.stack([metrics[k] for k in sorted(metrics)]))
  return state, np.stack(said)


def _load(made, task):
  names = ['train', 'dev']
  return split.load(
    made.config, task, names, made.tokenizer, causal=made.causal
  )


def train_batches(made, data, start: int = 0):
  """Each member's, of which this process makes its share."""
  c = made.config
  return population.stack(
    [
      data.train_batches(
        batch_size=c.train.batch_size,
        seed=member.seed,
        start_step=start,
        share=made.layout.share,
      )
      for member in made.members
    ]
  )


def gradient(made, tuned, frozen, batch):
  """Loss summed over a batch and its gradient, of each member."""

  def loss(tuned, frozen, batch):
    return cross_entropy.of_logits(
      made.tuned_model.logits(tuned, frozen, batch),
      batch['targets'],
      mask_BxT=batch['target_mask'],
    )

  each = jax.vmap(jax.value_and_grad(loss), in_axes=(0, None, 0))
  function = jax.jit(each, out_shardings=made.layout.whole)
  total, grads = made._placed(function, axis=1)(tuned, frozen, batch)
  return total, trained(grads)


def collectives(c) -> dict[str, list[tuple[str, str, str]]]:
  """(kind, shape, source) of all that is sent in a step of one prompt.

  Of the step that runs, and of the one that `--mode=plan` would have compiled.
  """
  made = assemble.parts(c)
  (task,) = split.tasks(c)
  data = _load(made, task)['train']
  tuned, frozen = made.init(labels=task.init_words)
  batch, texts = next(train_batches(made, data)), []

  def compiled(*args):
    texts.append(made.placed_step.lower(*args).compile().as_text())

  made._placed(compiled, axis=1)(made.state(tuned), frozen, batch)
  told = c.copy_and_resolve_references()
  told.plan.targets = batch['targets'].shape[-1]
  planned = steps.trace(assemble.outlined(told, made.layout), 'train')
  texts.append(planned.traced.lower().compile().as_text())
  return {
    name: [(x.kind, x.shape, x.source) for x in hlo.collectives(text)]
    for name, text in zip(('step', 'plan'), texts)
  }


def main(given: dict) -> None:
  c = config(pathlib.Path(given['room']), given['mesh'], **given['changes'])
  again, saved = given.get('resumes'), given.get('saved', '')
  out = resumed(c, saved) if again else run(c, saved)
  if not jax.process_index():
    np.savez(given['out'], **out)
  if given.get('collectives'):
    print(json.dumps(collectives(c)))


if __name__ == '__main__':
  main(json.loads(sys.argv[1]))
