"""A random model of a few thousand weights, and data for it."""

import dataclasses
import json
import pathlib
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from flax.core import meta
from goldens import causal_models
from jax.interpreters import partial_eval

from ptjax.models.t5 import T5, T5Config
from ptjax.weights import save

CONFIG = T5Config(
  vocab_size=61,
  d_model=24,
  d_kv=5,
  d_ff=36,
  num_layers=2,
  num_decoder_layers=3,
  num_heads=3,
)


def changed(**values) -> T5Config:
  """The tiny model with other sizes."""
  return dataclasses.replace(CONFIG, **values)


def t5(seed: int = 0, config: T5Config = CONFIG, **changes) -> tuple[T5, dict]:
  """(model, params) with weights that differ from layer to layer."""
  model = T5(config, **changes)
  ids = jnp.zeros((1, 4), jnp.int32)
  key = jax.random.key(seed)
  variables = jax.jit(model.init)(key, ids, ids >= 0, ids)
  return model, meta.unbox(variables)['params']


def batch(seed: int = 0, *, rows: int = 4, length: int = 9, target: int = 5):
  """Rows of unequal lengths, right padded, targets that end with EOS."""
  rng = np.random.default_rng(seed)
  inputs = rng.integers(3, CONFIG.vocab_size, (rows, length))
  lengths = rng.integers(2, length + 1, rows)
  targets = rng.integers(3, CONFIG.vocab_size, (rows, target))
  ends = rng.integers(1, target, rows)
  input_mask = np.arange(length) < lengths[:, None]
  targets[np.arange(rows), ends] = CONFIG.eos_id
  target_mask = np.arange(target) <= ends[:, None]
  return {
    'inputs': np.where(input_mask, inputs, 0).astype(np.int32),
    'input_mask': input_mask,
    'targets': np.where(target_mask, targets, 0).astype(np.int32),
    'target_mask': target_mask,
    'index': np.arange(rows, dtype=np.int32),
  }


def alone(train_step):
  """A population's step for one member without the member axis."""

  def run(state, frozen, batch):
    add, take = lambda x: x[None], lambda x: x[0]
    state, batch = jax.tree.map(jnp.asarray, (state, batch))
    out = train_step(
      *jax.tree.map(add, (state,)), frozen, jax.tree.map(add, batch)
    )
    return jax.tree.map(take, out)

  return run


WORDS = 'the cat dog sat ran on a red mat box is was not here there'.split()


def model_folder(
  folder: pathlib.Path, config: T5Config = CONFIG
) -> pathlib.Path:
  """A random model in Hugging Face's layout, with a word-level tokenizer."""
  labels = ['entailment', 'not_entailment', 'contradiction', 'neutral']
  pieces = ['<pad>', '</s>', '<unk>', *WORDS, *labels]
  pieces += ['hypothesis', 'premise', ':', '.']
  vocab = {piece: i for i, piece in enumerate(pieces)}
  backend = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocab, unk_token='<unk>')
  )
  backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  folder.mkdir(parents=True, exist_ok=True)
  backend.save(str(folder / 'tokenizer.json'))
  settings = {'pad_token': '<pad>', 'eos_token': '</s>', 'unk_token': '<unk>'}
  (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
  _, params = t5(config=config)
  save.save(folder, params, config)
  return folder


def gpt_folder(folder: pathlib.Path) -> pathlib.Path:
  """A random GPT-NeoX in Hugging Face's layout, with pieces of bytes."""
  shutil.copytree(causal_models.FOLDER / 'pythia', folder, dirs_exist_ok=True)
  end = '<|endoftext|>'
  pieces = ['<unk>', 'a', 'premise', 'hypothesis', ':', end, '_', '.']
  pieces += ['not', 'entailment']
  words = [*WORDS, *pieces[2:4], *pieces[8:], 'contradiction', 'neutral']
  pieces += [f'Ġ{word}' for word in words]
  vocab = {piece: i for i, piece in enumerate(pieces)}
  assert vocab[end] == 5  # as the model's config.json says
  backend = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocab, unk_token='<unk>')
  )
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False
  )
  backend.decoder = tokenizers.decoders.ByteLevel()
  backend.save(str(folder / 'tokenizer.json'))
  return folder


def data_folder(folder: pathlib.Path, *, rows: int = 24) -> pathlib.Path:
  """CB and RTE in SuperGLUE's files, of random words."""
  labels = {
    'CB': ['entailment', 'contradiction', 'neutral'],
    'RTE': ['entailment', 'not_entailment'],
  }
  for task, words in labels.items():
    rng = random.Random(task)
    (folder / task).mkdir(parents=True, exist_ok=True)
    for split in ('train', 'val', 'test'):
      lines = []
      for idx in range(rows):
        texts = {
          key: ' '.join(rng.choices(WORDS, k=rng.randint(3, 9)))
          for key in ('premise', 'hypothesis')
        }
        label = {} if split == 'test' else {'label': rng.choice(words)}
        lines.append(json.dumps({**texts, **label, 'idx': idx}))
      (folder / task / f'{split}.jsonl').write_text('\n'.join(lines) + '\n')
  return folder


def needed(program):
  """A program without what its results do not need, as it is compiled."""
  jaxpr = program.jaxpr
  return partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0]


# Changes to `words` that leave the least of a run.
SHORT = {
  'task': 'cb',
  'train.steps': 2,
  'train.eval_every': 2,
  'eval.submission': False,
  'eval.untuned': 0,
}


# Those of a run that takes long enough for a signal: it saves at each step.
INTERRUPTED = {
  'task': 'cb',
  'train.steps': 24,
  'train.save_every': 1,
  'train.eval_every': 12,
  'eval.untuned': 0,
  'eval.rank': False,
  'tensorboard': False,
  'eval.submission': False,
  'eval.batch_size': 12,
  'buckets': '(24,)',
}


def words(room: pathlib.Path, **changes) -> str:
  """What follows `--config=configs/superglue.py:` of a short run."""
  settings = {
    'model': room / 'model',
    'data': room / 'data',
    'task': 'cb+rte',
    'method.length': 5,
    'method.init': 'uniform',
    'train.steps': 12,
    'train.batch_size': 8,
    'train.eval_every': 4,
    'train.save_every': 2,
    'train.log_every': 1,
    'train.dropout': 0.1,
    'eval.submission': True,
    **changes,
  }
  return ','.join(f'{key}={value}' for key, value in settings.items())
