"""How the embedded models were made: the whole of their pretraining.

Owns the curriculum: texts to be continued, narrow before wide, each phase until
its gate opens. What a model learns of a document is in `objectives`. Knows no
task, prompt or method.
"""

import itertools
import pathlib
import random
import time
from collections.abc import Callable, Iterator
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from ptjax.config import UserError, one_of
from ptjax.miniature import vocabulary
from ptjax.objectives import causal_lm, prefix_lm
from ptjax.weights import load, save

OBJECTIVES = {module.FAMILY: module for module in (prefix_lm, causal_lm)}
HELD_OUT = 'held out'

Batch = dict[str, np.ndarray]


def run(config: ConfigDict, workdir: str | pathlib.Path) -> None:
  """Pretrains a model and leaves it in workdir/model."""
  for phase in config.pretrain.order:
    one_of('pretrain.order', phase, tuple(config.pretrain.phases))
  folder = pathlib.Path(workdir) / 'model'
  if (folder / 'model.safetensors').exists():
    raise UserError(
      f'{folder} holds a model already; name another --workdir, and that '
      'folder as pretrain.begin to go on from it'
    )
  objective = OBJECTIVES[config.pretrain.family]
  tokenizer = vocabulary.save(folder, objective.FAMILY)
  model = objective.network(tokenizer.get_vocab_size(), config.pretrain)
  params = _init(objective, model, config)
  tx = _optimizer(config.pretrain)
  opt_state = tx.init(params)
  step, answer = _functions(objective, model, tx, config.pretrain)
  begun, done = time.time(), 0
  for phase in config.pretrain.order:
    settings = config.pretrain.phases[phase]
    prose = 'wide' if phase == 'cool' else phase
    shape = {
      'batch_size': settings.batch_size,
      'lengths': tuple(config.pretrain.lengths),
      'chunk': config.pretrain.chunk,
    }
    stream = batches(objective, tokenizer, prose, seed=config.seed, **shape)
    held_out = _held_out(
      objective, tokenizer, prose, config.pretrain.held_out, shape
    )
    for steps in itertools.count(1):
      rate = _rate(config.pretrain, settings, steps, phase == 'cool')
      batch = next(stream)
      params, opt_state, loss = step(params, opt_state, batch, rate)
      done += 1
      # By the steps of all phases, which end where their gates open.
      if (every := config.pretrain.keep_every) and done % every == 0:
        _keep(folder, objective.FAMILY, params, model.config, step=done)
      if steps % config.pretrain.eval_every and steps < settings.most:
        continue
      scores = _scores(answer, params, held_out)
      _tell(phase, done, time.time() - begun, float(loss), scores)
      save.save(folder, params, model.config)
      gates = [scores.get(kind, 0.0) >= g for kind, g in settings.gates.items()]
      if steps >= settings.most or (steps >= settings.least and all(gates)):
        break


def _keep(folder, family: str, params, sizes, *, step: int) -> None:
  """A model along the way, for `configs/ablations.py:axis=model`."""
  beside = folder.with_name(f'{folder.name}-{step}')
  vocabulary.save(beside, family)
  save.save(beside, params, sizes)


def _init(objective: ModuleType, model, config: ConfigDict):
  if config.pretrain.begin:
    return load.load(config.pretrain.begin, dtype='float32').params
  return objective.init(model, config.seed)


def _optimizer(c: ConfigDict) -> optax.GradientTransformation:
  # The rate is an argument of every step: phases have their own.
  return optax.chain(
    optax.clip_by_global_norm(c.clip),
    optax.scale_by_adam(b1=0.9, b2=0.98),
    optax.add_decayed_weights(c.weight_decay),
  )


def _rate(c: ConfigDict, settings, step: int, cooling: bool) -> float:
  if cooling:
    return c.lr * max(0.02, 1 - step / settings.most)
  return c.lr * min(1.0, step / c.warmup)


def _functions(
  objective: ModuleType, model, tx, settings
) -> tuple[Callable, Callable]:
  def loss_fn(params, batch):
    return objective.loss(model, params, batch, settings)

  @jax.jit
  def step(params, opt_state, batch, rate):
    loss, grads = jax.value_and_grad(loss_fn)(params, batch)
    updates, opt_state = tx.update(grads, opt_state, params)
    params = jax.tree_util.tree_map_with_path(
      lambda path, p, u: p - rate * objective.pace(path) * u, params, updates
    )
    return params, opt_state, loss

  @jax.jit
  def answer(params, batch):
    """Whether every piece of a continuation is the likeliest one."""
    best = jnp.argmax(objective.logits(model, params, batch), axis=-1)
    return jnp.all((best == batch['targets']) | (batch['targets'] == 0), axis=1)

  return step, answer


def batches(
  objective: ModuleType,
  tokenizer,
  phase: str,
  *,
  seed,
  batch_size: int,
  lengths,
  chunk: int,
) -> Iterator[Batch]:
  """Batches of about equally long documents, without end."""
  rng = random.Random(f'{seed}/{phase}')
  for number in itertools.count():
    kinds, pairs = objective.encoded(
      tokenizer, phase, f'{seed}/{number}', chunk
    )
    groups: dict[int, list[int]] = {}
    for i, (inputs, targets) in enumerate(pairs):
      fitting = [length for length in lengths if len(inputs) <= length]
      if fitting and len(targets) <= objective.target_length(phase, fitting[0]):
        groups.setdefault(fitting[0], []).append(i)
    made = []
    for length, members in groups.items():
      wanted = objective.target_length(phase, length)
      for at in range(0, len(members) - batch_size + 1, batch_size):
        some = members[at : at + batch_size]
        made.append(
          {
            'inputs': _pad([pairs[i][0] for i in some], length),
            'targets': _pad([pairs[i][1] for i in some], wanted),
            'kinds': [kinds[i] for i in some],
          }
        )
    rng.shuffle(made)
    for batch in made:
      # Kinds are for the scores only, they are not arrays.
      yield batch if seed == HELD_OUT else _arrays(batch)


def _arrays(batch: Batch) -> Batch:
  return {k: v for k, v in batch.items() if k != 'kinds'}


def _pad(rows: list[list[int]], length: int) -> np.ndarray:
  out = np.zeros((len(rows), length), np.int32)
  for row, ids in zip(out, rows):
    row[: len(ids)] = ids
  return out


def _held_out(
  objective: ModuleType, tokenizer, phase: str, count: int, shape: dict
) -> list[Batch]:
  shape = shape | {'chunk': count}
  stream = batches(objective, tokenizer, phase, seed=HELD_OUT, **shape)
  # What one chunk gives, but for the groups' rests.
  return list(itertools.islice(stream, int(0.7 * count / shape['batch_size'])))


def _scores(answer, params, held_out: list[Batch]) -> dict[str, float]:
  """The share of right continuations for each kind of document."""
  right: dict[str, list[bool]] = {}
  for batch in held_out:
    hits = np.asarray(answer(params, _arrays(batch)))
    for kind, hit in zip(batch['kinds'], hits):
      right.setdefault(kind, []).append(bool(hit))
  return {kind: float(np.mean(hits)) for kind, hits in sorted(right.items())}


def _tell(phase, step: int, seconds: float, loss: float, scores) -> None:
  said = ' '.join(f'{kind} {score:.2f}' for kind, score in scores.items())
  print(
    f'{phase:6s} step {step:6d} {seconds:6.0f} s loss {loss:.3f} {said}',
    flush=True,
  )
