"""The embedded GPT's objective: every piece is predicted from those before it.

Owns what a piece of a document weighs and where a new GPT's attention first
looks. Who is where in the small world is drawn by lot, and no reader can
foretell it: so the pieces of a text weigh less than those of its continuation,
which follow from it. Knows no schedule.
"""

import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ptjax.miniature import letters
from ptjax.models import causal_layers
from ptjax.models.gpt_neox import GPTNeoX, GPTNeoXConfig

FAMILY = 'gpt'
EOS = 1
_NEAR, _ALIKE, _ELSEWHERE = 4.0, 4.0, 2.0  # of a score in the softmax


def network(vocab_size: int, settings: Any) -> GPTNeoX:
  sizes = settings.model.to_dict()
  head_size = sizes['d_model'] // sizes['num_heads']
  config = GPTNeoXConfig(
    vocab_size=vocab_size, head_size=head_size, eos_id=EOS, pad_id=0, **sizes
  )
  return GPTNeoX(config, scan=False, remat='none')


def init(model: GPTNeoX, seed: int):
  ids = jnp.ones((1, 4), jnp.int32)
  variables = model.init(jax.random.key(seed), ids, ids > 0)
  params = nn.unbox(variables)['params']
  _look(params['layers']['attention']['query_key_value'], model.config)
  return params


def _look(fused, config: GPTNeoXConfig) -> None:
  """Gives the heads something to look at before they learn it.

  The first looks one token behind, the second two; the others look at tokens
  like their own elsewhere. A rotated score is a sum of waves over the
  distance: biases in step at one distance have their crest there.
  """
  kernel, bias = fused['kernel'], fused['bias']
  size, turned = config.head_size, config.rotary_size
  wave = causal_layers.frequencies(turned, config.rotary_base)
  wave = jnp.asarray(wave, bias.dtype)
  half = turned // 2
  for head in range(config.num_heads):
    behind = head + 1 if head < 2 else 0
    # How far the score falls from the crest to the next token.
    fall = float(jnp.sum(1 - jnp.cos(wave)))
    height = _NEAR / fall if behind else -_ELSEWHERE / half
    a = math.sqrt(abs(height) * size**0.5)
    query = jnp.zeros(size).at[:half].set(a)
    key = jnp.zeros(size).at[:half].set(a * jnp.cos(behind * wave))
    key = key.at[half:turned].set(a * jnp.sin(behind * wave))
    key = key if behind else -key
    bias = bias.at[:, head, 0].set(query).at[:, head, 1].set(key)
    if not behind:
      alike = kernel[:, :, head, 1, turned:]
      # Of normed rows of d_model features, as long as the score wants it.
      long = jnp.sum(jnp.square(alike), axis=(1, 2), keepdims=True)
      alike = alike * jnp.sqrt(_ALIKE * size**0.5 / long)
      kernel = kernel.at[:, :, head, 0, turned:].set(alike)
      kernel = kernel.at[:, :, head, 1, turned:].set(alike)
  fused['kernel'], fused['bias'] = kernel, bias


def pace(path) -> float:
  return 1.0


def logits(model: GPTNeoX, params, batch) -> jax.Array:
  """Logits [B, L, V] of each position's next piece."""
  return model.apply({'params': params}, batch['inputs'], batch['inputs'] > 0)


def loss(model: GPTNeoX, params, batch, settings: Any) -> jax.Array:
  """Nats a piece, over the whole document behind its first piece.

  A piece of the text weighs `settings.text_weight` of one of the continuation.
  """
  following = jnp.pad(batch['inputs'][:, 1:], ((0, 0), (0, 1)))
  weights = jnp.where(batch['targets'] > 0, 1.0, settings.text_weight)
  weights = weights * (following > 0)
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits(model, params, batch), following
  )
  return jnp.sum(losses * weights) / jnp.sum(weights)


def target_length(phase: str, input_length: int) -> int:
  return input_length


def encoded(tokenizer, phase: str, seed: str, count: int):
  """Kinds, ids of documents, and the continuations' where they are predicted.

  A target of 0 is a piece of the text.
  """
  made = list(itertools.islice(letters.documents(seed, phase=phase), count))
  texts = tokenizer.encode_batch([text for _, text, _ in made])
  ends = tokenizer.encode_batch([end for _, _, end in made])
  pairs = [
    (
      text.ids + end.ids + [EOS],
      [0] * (len(text.ids) - 1) + end.ids + [EOS],
    )
    for text, end in zip(texts, ends)
  ]
  return [kind for kind, _, _ in made], pairs
