"""Text <-> ids, by the tokenizer that belongs to a frozen model.

Owns how a tokenizer is found and what its special pieces are. Adds no EOS and
cuts nothing: `data.batch` does. Knows no task, and no array.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ptjax.config import UserError

# The first that is there is read. tokenizer.json is complete; a SentencePiece
# model is converted, with T5's 100 sentinels put on top of it.
_READY, _PIECES = 'tokenizer.json', ('spiece.model', 'sentencepiece.model')
_SETTINGS = ('config.json', 'tokenizer_config.json', 'special_tokens_map.json')
_CHUNK = 2048  # texts encoded at once: bounds the memory of the results


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """A tokenizer and its special pieces.

  Attributes:
    backend: a `tokenizers.Tokenizer`.
    vocab_size: its ids are below. The model's embedding may have more rows:
      T5's has 32128 for 32100 pieces.
  """

  backend: Any = dataclasses.field(repr=False)
  eos_id: int
  pad_id: int
  vocab_size: int

  def encode(self, text: str) -> list[int]:
    """Ids without EOS."""
    return self.backend.encode(text, add_special_tokens=False).ids

  def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
    """`encode` of each, on all cores, and once for each different text."""
    texts = list(texts)
    todo = list(dict.fromkeys(texts))
    found = {}
    for start in range(0, len(todo), _CHUNK):
      part = todo[start : start + _CHUNK]
      encoded = self.backend.encode_batch_fast(part, add_special_tokens=False)
      found.update(zip(part, (one.ids for one in encoded)))
    return [found[text] for text in texts]

  def decode(self, ids: Sequence[int]) -> str:
    """The text before the first EOS, stripped.

    Padding and ids above the vocabulary are dropped. Sentinels stay, as in
    T5X: an answer that begins with <extra_id_0> is no label.
    """
    kept = []
    for i in map(int, ids):
      if i == self.eos_id:
        break
      if i != self.pad_id and i < self.vocab_size:
        kept.append(i)
    return self.backend.decode(kept, skip_special_tokens=False).strip()


def load(name: str | os.PathLike) -> Tokenizer:
  """The tokenizer of a local folder or of a repository on the hub.

  No code of the folder is run.

  Raises:
    UserError: no such folder, or it holds no tokenizer that can be read.
  """
  folder = pathlib.Path(name)
  if not folder.is_dir():
    folder = _from_hub(str(name))
  try:
    if (folder / _READY).is_file():
      backend = _read(folder / _READY)
    elif any((folder / piece).is_file() for piece in _PIECES):
      backend = _convert(folder)
    else:
      raise UserError(
        f'{name} holds no tokenizer ({_READY} or {_PIECES[0]}); name a folder '
        'or hub name that does by config.tokenizer, such as '
        '--config.tokenizer=google/t5-v1_1-base'
      )
  except UserError:
    raise
  except Exception as error:  # The libraries raise bare Exception, too.
    reason = str(error).strip().split('\n')[0]
    raise UserError(
      f'the tokenizer in {name} cannot be read: {reason}; name another by '
      'config.tokenizer'
    ) from None
  backend.no_truncation()
  backend.no_padding()
  return Tokenizer(
    backend,
    eos_id=_special(backend, folder, 'eos_token', '</s>'),
    pad_id=_special(backend, folder, 'pad_token', '<pad>'),
    vocab_size=1 + max(backend.get_vocab(with_added_tokens=True).values()),
  )


def _from_hub(name: str) -> pathlib.Path:
  import huggingface_hub
  from huggingface_hub import errors

  try:
    found = huggingface_hub.snapshot_download(
      name, allow_patterns=[_READY, *_PIECES, *_SETTINGS]
    )
  except errors.HFValidationError:
    reason = 'that is no name of a repository'
  except errors.RepositoryNotFoundError:
    reason = 'no such repository, or it is private'
  except (errors.LocalEntryNotFoundError, OSError):
    # OSError: also whatever requests or httpx call a broken connection.
    reason = 'the hub cannot be reached, and it is not in the cache'
  else:
    return pathlib.Path(found)
  raise UserError(
    f'config.tokenizer={name} is no folder here, and not to be had from the '
    f'hub: {reason}'
  )


def _read(path: pathlib.Path) -> Any:
  # Not through transformers: the same ids, without importing it (and torch,
  # where that is installed), which takes seconds.
  import tokenizers

  return tokenizers.Tokenizer.from_file(str(path))


def _convert(folder: pathlib.Path) -> Any:
  with _silence():
    import transformers

    # A bare spiece.model is T5's; else the folder says what it is.
    told = any((folder / name).is_file() for name in _SETTINGS[:2])
    kind = transformers.AutoTokenizer if told else transformers.T5Tokenizer
    found = kind.from_pretrained(
      str(folder), local_files_only=True, trust_remote_code=False
    )
  return found.backend_tokenizer


@contextlib.contextmanager
def _silence() -> Iterator[None]:
  """Without transformers' remarks, such as on PyTorch not being there."""
  names = {
    'TRANSFORMERS_VERBOSITY': 'error',
    'TRANSFORMERS_NO_ADVISORY_WARNINGS': '1',
  }
  before = {name: os.environ.get(name) for name in names}
  os.environ.update({k: v for k, v in names.items() if before[k] is None})
  try:
    yield
  finally:
    for name in names:
      if before[name] is None:
        os.environ.pop(name, None)


def _special(backend: Any, folder: pathlib.Path, key: str, usual: str) -> int:
  """The id of a special piece: as the folder's settings say, else as usual."""
  text = usual
  for name in reversed(_SETTINGS[1:]):
    path = folder / name
    if path.is_file():
      said = json.loads(path.read_text(encoding='utf-8')).get(key)
      text = said['content'] if isinstance(said, dict) else said or text
  found = backend.token_to_id(text)
  if found is None:
    raise UserError(
      f'the tokenizer in {folder} has no {text!r} (its {key}), which batches '
      'need; name another by config.tokenizer'
    )
  return found
