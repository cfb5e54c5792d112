"""The miniature's tokenizer: whole words, and bytes for all the rest.

Owns the vocabulary and the tokenizer's files. Every word of the miniature is
one piece; any other text is spelt in bytes, so that no text is refused.
"""

import itertools
import json
import pathlib
import re

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from ptjax.miniature import corpus, superglue

SENTINELS = 16
SPECIAL = ('<pad>', '</s>', '<unk>')
# What T5's formats of the tasks say around a row's own words.
FORMAT_WORDS = (
  'passage question hypothesis premise paragraph answer query entities'
  ' sentence1 sentence2 word choice1 choice2 cause effect'.split()
)
LABELS = (
  'True False entailment not_entailment contradiction neutral choice1'
  ' choice2'.split()
)
# Inside a word: '*she*' and '@placeholder' are pieces, not bytes.
INNER = ('.', ',', '?', ':', '*', '!', "'", 'she', 'he', 'it', 'placeholder')
SAMPLE = 20_000


def words() -> list[str]:
  """Every word that the generator says, sorted."""
  found = set(FORMAT_WORDS) | set(LABELS) | {'*', '@', '@placeholder'}
  for phase in corpus.SHARES:
    for _, *texts in itertools.islice(
      corpus.documents('words', phase=phase), SAMPLE
    ):
      found.update(_split(' '.join(texts)))
  for task in superglue.MAKERS:
    found.update(_split(' '.join(_strings(superglue.rows(task, 'train')))))
  return sorted(found)


def _split(text: str) -> list[str]:
  return re.findall(r'@?\w+|\.\.\.', text.replace('<br>', ' '))


def _strings(row) -> list[str]:
  if isinstance(row, str):
    return [row]
  if isinstance(row, dict):
    row = list(row.values())
  if isinstance(row, list):
    return [text for item in row for text in _strings(item)]
  return []


def build() -> tokenizers.Tokenizer:
  pieces = [(piece, 0.0) for piece in SPECIAL]
  pieces += [(f'<0x{byte:02X}>', -20.0) for byte in range(256)]
  pieces += [('▁', -8.0)]
  pieces += [(piece, -6.0) for piece in INNER]
  pieces += [('▁' + word, -5.0) for word in words()]
  pieces += [(f'<extra_id_{i}>', 0.0) for i in reversed(range(SENTINELS))]
  tokenizer = tokenizers.Tokenizer(
    models.Unigram(pieces, unk_id=2, byte_fallback=True)
  )
  tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
    replacement='▁', prepend_scheme='always', split=True
  )
  tokenizer.decoder = decoders.Sequence(
    [
      decoders.ByteFallback(),
      decoders.Metaspace(replacement='▁', prepend_scheme='always'),
      decoders.Fuse(),
    ]
  )
  tokenizer.add_special_tokens(
    [tokenizers.AddedToken(p, special=True, normalized=False) for p in SPECIAL]
    + [
      tokenizers.AddedToken(f'<extra_id_{i}>', special=True, normalized=False)
      for i in range(SENTINELS)
    ]
  )
  return tokenizer


def save(folder: str | pathlib.Path) -> tokenizers.Tokenizer:
  """Builds it and writes the files that transformers.AutoTokenizer reads."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  tokenizer = build()
  tokenizer.save(str(folder / 'tokenizer.json'))
  settings = {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'pad_token': '<pad>',
    'eos_token': '</s>',
    'unk_token': '<unk>',
    'clean_up_tokenization_spaces': False,
    'model_max_length': 512,
  }
  text = json.dumps(settings, indent=2) + '\n'
  (folder / 'tokenizer_config.json').write_text(text)
  return tokenizer
