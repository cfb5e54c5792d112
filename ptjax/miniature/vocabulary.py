"""The miniature's tokenizers: whole words, and bytes for all the rest.

Owns the vocabularies and the tokenizers' files. Every word that a model's
documents and tasks say is one piece; any other text is spelt in bytes, so that
no text is refused.
"""

import itertools
import json
import pathlib
import re
from collections.abc import Iterator

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from ptjax.miniature import complaints, corpus, letters, superglue

SENTINELS = {'t5': 16, 'gpt': 0}  # by family of the model
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


def words(family: str = 't5') -> list[str]:
  """Every word that the generators say to a family, sorted."""
  found = {'@'}
  for text in _t5_texts() if family == 't5' else _gpt_texts():
    found.update(_split(text))
  if family == 't5':
    found |= set(FORMAT_WORDS) | set(LABELS) | {'*', '@placeholder'}
  return sorted(found)


def _t5_texts() -> Iterator[str]:
  for phase in corpus.SHARES:
    yield from _sample(corpus.documents('words', phase=phase))
  for task in superglue.MAKERS:
    yield ' '.join(_strings(superglue.rows(task, 'train')))


def _gpt_texts() -> Iterator[str]:
  for phase in letters.SHARES:
    yield from _sample(letters.documents('words', phase=phase))
  yield ' '.join(_strings(complaints.rows('train')))


def _sample(documents: Iterator[tuple[str, str, str]]) -> Iterator[str]:
  for _, *texts in itertools.islice(documents, SAMPLE):
    yield ' '.join(texts)


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


def build(family: str = 't5') -> tokenizers.Tokenizer:
  sentinels = [f'<extra_id_{i}>' for i in range(SENTINELS[family])]
  pieces = [(piece, 0.0) for piece in SPECIAL]
  pieces += [(f'<0x{byte:02X}>', -20.0) for byte in range(256)]
  pieces += [('▁', -8.0)]
  pieces += [(piece, -6.0) for piece in INNER]
  pieces += [('▁' + word, -5.0) for word in words(family)]
  pieces += [(piece, 0.0) for piece in reversed(sentinels)]
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
    [
      tokenizers.AddedToken(piece, special=True, normalized=False)
      for piece in (*SPECIAL, *sentinels)
    ]
  )
  return tokenizer


def save(
  folder: str | pathlib.Path, family: str = 't5'
) -> tokenizers.Tokenizer:
  """Builds it and writes the files that transformers.AutoTokenizer reads."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  tokenizer = build(family)
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
