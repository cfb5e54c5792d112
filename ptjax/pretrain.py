"""How the embedded miniature was made: the whole of its pretraining.

Owns the curriculum: texts to be continued (the prefix-LM objective of the
prompt tuning paper), narrow before wide, each phase until its gate opens; or
span corruption, where the config puts it. Knows no task, prompt or method.
"""

import itertools
import pathlib
import random
import time
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from ptjax.config import UserError, one_of
from ptjax.miniature import corpus, vocabulary
from ptjax.models.t5 import T5, T5Config
from ptjax.weights import load, save

EOS = 1
HELD_OUT = 'held out'
# Targets are padded to one length for continuations, another for spans.
TARGET_LENGTHS = {'spans': 12, 'first': 6, 'narrow': 6, 'wide': 6}

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
  tokenizer = vocabulary.save(folder)
  sizes = T5Config(
    vocab_size=tokenizer.get_vocab_size(), **config.pretrain.model.to_dict()
  )
  model = T5(sizes, scan=False)
  params = _init(model, config)
  tx = _optimizer(config.pretrain)
  opt_state = tx.init(params)
  step, answer = _functions(model, tx)
  begun, done = time.time(), 0
  for phase in config.pretrain.order:
    settings = config.pretrain.phases[phase]
    prose = 'wide' if phase == 'cool' else phase
    shape = {
      'batch_size': settings.batch_size,
      'lengths': tuple(config.pretrain.lengths),
      'chunk': config.pretrain.chunk,
    }
    stream = batches(tokenizer, prose, seed=config.seed, **shape)
    held_out = _held_out(tokenizer, prose, config.pretrain.held_out, shape)
    for steps in itertools.count(1):
      rate = _rate(config.pretrain, settings, steps, phase == 'cool')
      batch = next(stream)
      params, opt_state, loss = step(params, opt_state, batch, rate)
      done += 1
      if steps % config.pretrain.eval_every and steps < settings.most:
        continue
      scores = _scores(answer, params, held_out)
      _tell(phase, done, time.time() - begun, float(loss), scores)
      save.save(folder, params, sizes)
      _keep(folder, params, sizes, step=done, every=config.pretrain.keep_every)
      gates = [scores.get(kind, 0.0) >= g for kind, g in settings.gates.items()]
      if steps >= settings.most or (steps >= settings.least and all(gates)):
        break


def _keep(folder, params, sizes: T5Config, *, step: int, every: int) -> None:
  """A model along the way, for `configs/ablations.py:axis=model`."""
  if every and step % every == 0:
    beside = folder.with_name(f'{folder.name}-{step}')
    vocabulary.save(beside)
    save.save(beside, params, sizes)


def _init(model: T5, config: ConfigDict):
  if config.pretrain.begin:
    return load.load(config.pretrain.begin, dtype='float32').params
  ids = jnp.ones((1, 4), jnp.int32)
  variables = model.init(jax.random.key(config.seed), ids, ids > 0, ids)
  params = nn.unbox(variables)['params']
  _look(params['encoder'], heads=config.pretrain.model.num_heads)
  return params


def _look(encoder, *, heads: int) -> None:
  """Gives the encoder's heads something to look at before they learn it.

  The first looks behind, the second ahead, the others at tokens like their
  own elsewhere. From noise all three take longer than the rest of the
  pretraining, and without them nobody can be told apart.
  """
  table = encoder['relative_bias']['embedding']
  bucket, half = np.arange(table.shape[0]), table.shape[0] // 2
  near = (1 <= bucket % half) & (bucket % half <= 5)
  behind = np.where(near & (bucket < half), 0.0, -4.0)
  ahead = np.where(near & (bucket >= half), 0.0, -4.0)
  elsewhere = np.where(bucket == 0, -4.0, 0.0)
  looks = [behind, ahead] + [elsewhere] * (heads - 2)
  encoder['relative_bias']['embedding'] = table + np.stack(looks, axis=1)
  attention = encoder['layers']['attention']
  key, query = attention['key']['kernel'], attention['query']['kernel']
  size = key.shape[-1] // heads
  alike = key[..., 2 * size :] * size**-0.5
  attention['query']['kernel'] = query.at[..., 2 * size :].set(alike)


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


def _functions(model: T5, tx) -> tuple[Callable, Callable]:
  def logits(params, batch):
    targets = batch['targets']
    shifted = jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    return model.apply(
      {'params': params}, batch['inputs'], batch['inputs'] > 0, shifted
    )

  def loss_fn(params, batch):
    mask = batch['targets'] > 0
    losses = optax.softmax_cross_entropy_with_integer_labels(
      logits(params, batch), batch['targets']
    )
    return jnp.sum(losses * mask) / jnp.sum(mask)

  @jax.jit
  def step(params, opt_state, batch, rate):
    loss, grads = jax.value_and_grad(loss_fn)(params, batch)
    updates, opt_state = tx.update(grads, opt_state, params)
    params = jax.tree_util.tree_map_with_path(
      lambda path, p, u: p - rate * _pace(path) * u, params, updates
    )
    return params, opt_state, loss

  @jax.jit
  def answer(params, batch):
    """Whether every piece of a continuation is the likeliest one."""
    best = jnp.argmax(logits(params, batch), axis=-1)
    return jnp.all((best == batch['targets']) | (batch['targets'] == 0), axis=1)

  return step, answer


def _pace(path) -> float:
  """Relative biases are few and must grow large: they learn faster."""
  return 10.0 if 'relative_bias' in jax.tree_util.keystr(path) else 1.0


def batches(
  tokenizer, phase: str, *, seed, batch_size: int, lengths, chunk: int
) -> Iterator[Batch]:
  """Batches of about equally long documents, without end."""
  wanted = TARGET_LENGTHS[phase]
  rng = random.Random(f'{seed}/{phase}')
  for number in itertools.count():
    kinds, pairs = encoded(tokenizer, phase, f'{seed}/{number}', chunk)
    groups: dict[int, list[int]] = {}
    for i, (inputs, targets) in enumerate(pairs):
      fitting = [length for length in lengths if len(inputs) <= length]
      if fitting and len(targets) <= wanted:
        groups.setdefault(fitting[0], []).append(i)
    made = []
    for length, members in groups.items():
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


def encoded(tokenizer, phase: str, seed: str, count: int):
  """Kinds, and ids of texts and of their continuations."""
  prose = 'narrow' if phase == 'spans' else phase
  made = list(itertools.islice(corpus.documents(seed, phase=prose), count))
  kinds = [kind for kind, _, _ in made]
  texts = tokenizer.encode_batch([text for _, text, _ in made])
  ends = tokenizer.encode_batch([end for _, _, end in made])
  pairs = [(t.ids + [EOS], e.ids + [EOS]) for t, e in zip(texts, ends)]
  if phase != 'spans':
    return kinds, pairs
  rng = random.Random(seed)
  first = tokenizer.token_to_id('<extra_id_0>')
  whole = [text[:-1] + end[:-1] for text, end in pairs]
  return kinds, [corrupt(rng, ids, first_sentinel=first) for ids in whole]


def corrupt(
  rng: random.Random, ids: list[int], *, first_sentinel: int
) -> tuple[list[int], list[int]]:
  """T5's span corruption: about 15 % of the pieces, in short spans."""
  spans = max(1, round(0.15 * len(ids) / 1.5))
  starts = sorted(rng.sample(range(0, len(ids) - 1, 3), min(spans, 4)))
  inputs, targets, at = [], [], 0
  for number, start in enumerate(starts):
    end = start + rng.choice((1, 2))
    inputs += ids[at:start] + [first_sentinel - number]
    targets += [first_sentinel - number] + ids[start:end]
    at = end
  last = first_sentinel - len(starts)
  return inputs + ids[at:] + [EOS], targets + [last, EOS]


def _held_out(tokenizer, phase: str, count: int, shape: dict) -> list[Batch]:
  shape = shape | {'chunk': count}
  stream = batches(tokenizer, phase, seed=HELD_OUT, **shape)
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
