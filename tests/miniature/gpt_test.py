"""The embedded GPT: its files are whole, and what it knows of letters."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from ptjax.miniature import complaints, letters
from ptjax.weights import load

NAME = 'miniature/gpt'


@pytest.fixture(scope='module')
def gpt():
  made = load.load(NAME)
  path = str(load.resolve(NAME) / 'tokenizer.json')
  return made, tokenizers.Tokenizer.from_file(path)


@functools.partial(jax.jit, static_argnums=0)
def logits(model, params, ids):
  return model.apply({'params': params}, ids, ids > 0)


def padded(rows: list[list[int]], length: int) -> np.ndarray:
  out = np.zeros((len(rows), length), np.int32)
  for row, ids in zip(out, rows):
    row[: len(ids)] = ids
  return out


def test_it_loads_strictly_and_is_finite(gpt):
  made, tokenizer = gpt
  assert made.config.vocab_size == tokenizer.get_vocab_size()
  assert made.config.parallel_residual
  # A prompt of 100, an input and an answer.
  assert made.config.max_positions >= 256
  rows = complaints.rows('test')[:32]
  ids = padded([tokenizer.encode(r['Tweet text']).ids for r in rows], 40)
  found = logits(made.model, made.params, ids)
  assert found.shape == (32, 40, made.config.vocab_size)
  assert np.isfinite(found).all() and np.std(found) > 0.5


def test_it_goes_on_with_letters_it_never_saw(gpt):
  """The skill is in the frozen weights; a damaged file would lose it."""
  made, tokenizer = gpt
  stream = letters.documents('not those it was made of', split='dev')
  some = [d for d in itertools.islice(stream, 400) if d[0] in letters.KINDS]
  texts = tokenizer.encode_batch([text for _, text, _ in some])
  ends = tokenizer.encode_batch([end for _, _, end in some])
  ids = padded([t.ids + e.ids + [1] for t, e in zip(texts, ends)], 60)
  best = np.argmax(logits(made.model, made.params, ids), axis=-1)
  right = [
    best[i, len(t.ids) - 1 : len(t.ids) + len(e.ids)].tolist() == e.ids + [1]
    for i, (t, e) in enumerate(zip(texts, ends))
  ]
  assert len(right) > 150 and np.mean(right) > 0.9


def test_transformers_reads_the_same_network(gpt):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  made, tokenizer = gpt
  theirs, told = transformers.AutoModelForCausalLM.from_pretrained(
    load.resolve(NAME), output_loading_info=True
  )
  assert not told['missing_keys'] and not told['unexpected_keys']
  ids = np.array([tokenizer.encode('@market My soup was not warm.').ids])
  ours = logits(made.model, made.params, jnp.asarray(ids))
  with torch.no_grad():
    wanted = theirs.eval()(torch.tensor(ids)).logits.numpy()
  np.testing.assert_allclose(ours, wanted, atol=1e-5 * np.abs(wanted).max())
