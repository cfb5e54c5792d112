"""A GPT's objective: what is predicted, what it weighs, and where it looks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from ml_collections import ConfigDict

from ptjax.miniature import letters
from ptjax.models import causal_layers
from ptjax.objectives import causal_lm

SETTINGS = ConfigDict(
  {
    'text_weight': 0.25,
    'model': {
      'd_model': 64,
      'd_ff': 48,
      'num_layers': 2,
      'num_heads': 4,
      'max_positions': 64,
      'rotary_size': 8,
    },
  }
)


@pytest.fixture(scope='module')
def network():
  model = causal_lm.network(50, SETTINGS)
  return model, causal_lm.init(model, 0)


def batch(rows):
  """inputs and targets of rows of (ids, number of ids of the text)."""
  length = max(len(ids) for ids, _ in rows) + 2
  inputs, targets = (np.zeros((len(rows), length), np.int32) for _ in range(2))
  for i, (ids, text) in enumerate(rows):
    inputs[i, : len(ids)] = ids
    targets[i, text - 1 : len(ids) - 1] = ids[text:]
  return {'inputs': inputs, 'targets': targets}


def test_the_loss_is_of_every_piece_behind_the_first(network):
  model, params = network
  rows = [([7, 8, 9, 20, 1], 3), ([11, 12, 30, 31, 32, 1], 2)]
  total, weights = 0.0, 0.0
  for ids, text in rows:
    logits = model.apply(
      {'params': params}, jnp.array([ids]), jnp.ones((1, len(ids)), bool)
    )[0]
    nats = -jax.nn.log_softmax(np.asarray(logits, np.float64))
    for at in range(1, len(ids)):
      weight = 1.0 if at >= text else 0.25
      total += weight * float(nats[at - 1, ids[at]])
      weights += weight
  found = causal_lm.loss(model, params, batch(rows), SETTINGS)
  np.testing.assert_allclose(found, total / weights, rtol=1e-5)


def test_documents_are_texts_with_their_continuations():
  words = {'<pad>': 0, '</s>': 1, '<unk>': 2}
  made = next(letters.documents('7', phase='first'))
  for word in f'{made[1]} {made[2]}'.split():
    words.setdefault(word, len(words))
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(words, unk_token='<unk>')
  )
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  (kind,), ((ids, targets),) = causal_lm.encoded(tokenizer, 'first', '7', 1)
  text, end = made[1].split(), made[2].split()
  said = [words[w] for w in text + end]
  assert kind == made[0] and ids == [*said, causal_lm.EOS]
  # Each target is the id behind it, and there is one for each of the end's.
  assert targets[: len(text) - 1] == [0] * (len(text) - 1)
  assert targets[len(text) - 1 :] == ids[len(text) :]


def test_heads_begin_by_looking_behind_and_at_equal_tokens(network):
  model, params = network
  ids = np.array([[5, 6, 7, 8, 9, 10, 11, 12, 6, 13, 14, 15]])
  rotation = model.apply(
    {'params': params}, jnp.arange(12)[None], method='rotation'
  )
  layer = jax.tree.map(lambda x: x[0], params['layers'])
  x = params['token_embedder']['embedding'][ids]
  x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
  attention = causal_layers.Attention(model.config, 4, fused='head')
  query, (key, _) = attention.apply(
    {'params': layer['attention']}, x, rotation, method='project'
  )
  scores = np.array(jnp.matmul(query, key))[:, 0]
  scores[:, ~np.tril(np.ones((12, 12), bool))] = -np.inf
  best = scores.argmax(-1)
  assert np.array_equal(best[0, 1:], np.arange(11))
  assert np.array_equal(best[1, 2:], np.arange(10))
  # The second 6, at 8, finds the first one.
  assert best[2, 8] == best[3, 8] == 1
