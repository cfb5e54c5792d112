"""The embedded T5's objective: texts are read, continuations predicted.

Owns the prefix-LM objective of the prompt tuning paper, span corruption where
a phase of that name asks for it, and where a new T5's attention first looks.
Knows no schedule.
"""

import itertools
import random
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ptjax.miniature import corpus
from ptjax.models.t5 import T5, T5Config

FAMILY = 't5'
EOS = 1
# Targets are padded to one length for continuations, another for spans.
TARGET_LENGTHS = {'spans': 12, 'first': 6, 'narrow': 6, 'wide': 6}


def network(vocab_size: int, settings: Any) -> T5:
  sizes = T5Config(vocab_size=vocab_size, **settings.model.to_dict())
  return T5(sizes, scan=False, remat='none')


def init(model: T5, seed: int):
  ids = jnp.ones((1, 4), jnp.int32)
  variables = model.init(jax.random.key(seed), ids, ids > 0, ids)
  params = nn.unbox(variables)['params']
  _look(params['encoder'], heads=model.config.num_heads)
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


def pace(path) -> float:
  """Relative biases are few and must grow large: they learn faster."""
  return 10.0 if 'relative_bias' in jax.tree_util.keystr(path) else 1.0


def logits(model: T5, params, batch) -> jax.Array:
  """Logits [B, T, V] of `targets` [B, T]."""
  targets = batch['targets']
  shifted = jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  return model.apply(
    {'params': params}, batch['inputs'], batch['inputs'] > 0, shifted
  )


def loss(model: T5, params, batch, settings: Any) -> jax.Array:
  """Nats a target piece; `settings` has nothing to say here."""
  mask = batch['targets'] > 0
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits(model, params, batch), batch['targets']
  )
  return jnp.sum(losses * mask) / jnp.sum(mask)


def target_length(phase: str, input_length: int) -> int:
  return TARGET_LENGTHS[phase]


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
