"""Text <-> ids, by the tokenizer that belongs to a frozen model.

Owns how a tokenizer is found and what its special pieces are. Adds no EOS and
cuts nothing: `data.batch` does. Knows no task, and no array.
"""

import dataclasses
import json
import os
import pathlib
import struct
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from ptjax import bucket
from ptjax.config import UserError

# The first that is there is read: tokenizer.json knows of pieces that were
# added later.
_READY, _PIECES = 'tokenizer.json', 'spiece.model'
_OTHERS = ('tokenizer.model', 'vocab.json')  # Llama's, GPT-2's without it
_SETTINGS = ('tokenizer_config.json', 'special_tokens_map.json')
_SUCH = '--config.tokenizer=google/t5-v1_1-base'
# What ends a text where the folder's settings do not say: T5's, then GPT's.
_ENDS = ('</s>', '<|endoftext|>')
_SENTINELS = 100  # <extra_id_99> … <extra_id_0> on top of T5's own pieces
_CHUNK = 2048  # texts encoded at once: bounds the memory of the results


class Backend(Protocol):
  """What reads one kind of file."""

  size: int
  begin: tuple[int, ...]
  bytes: bool  # whether its pieces are of bytes, and a space is one of them

  def encode(self, texts: list[str]) -> list[list[int]]: ...

  def decode(self, ids: list[int]) -> str: ...

  def id_of(self, piece: str) -> int | None: ...

  def piece(self, number: int) -> str | None: ...

  def unsay(self, ids: Sequence[int]) -> None:
    """From now on no text gives these ids."""
    ...


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """A tokenizer and its special pieces.

  Attributes:
    pad_id: `eos_id` where there is no piece for padding, as in GPT-2: then only
      a mask tells them apart.
    vocab_size: its ids are below. The model's embedding may have more rows:
      T5's has 32128 for 32100 pieces.
    begin: ids that stand in front of every text, such as Llama's BOS.
    joint: what stands between a text and what goes on from it. A space where
      a word behind a space is another piece; else the tokenizer adds its own.
  """

  backend: Backend = dataclasses.field(repr=False)
  eos_id: int
  pad_id: int
  vocab_size: int
  begin: tuple[int, ...] = ()
  joint: str = ''

  @property
  def note(self) -> str:
    """What a user should know of it; most often nothing."""
    if self.pad_id != self.eos_id or isinstance(self.backend, _Missing):
      return ''
    return (
      f'the tokenizer has no padding token: id {self.eos_id}, its end of text, '
      'pads, and is masked out there'
    )

  def encode(self, text: str) -> list[int]:
    """Ids without EOS."""
    return self.backend.encode([text])[0]

  def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
    """`encode` of each, on all cores, and once for each different text."""
    texts = list(texts)
    todo = list(dict.fromkeys(texts))
    found = {}
    for start in range(0, len(todo), _CHUNK):
      part = todo[start : start + _CHUNK]
      found.update(zip(part, self.backend.encode(part)))
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
    return self.backend.decode(kept).strip()

  def pieces(self) -> list[str | None]:
    """What each id stands for, to be read: '▁' is the space before a word.

    None for an id below `vocab_size` that no piece has.
    """
    return [self.backend.piece(number) for number in range(self.vocab_size)]


def missing(
  why: UserError, *, eos_id: int, pad_id: int, vocab_size: int
) -> Tokenizer:
  """For a model that has none: rows of ids pass, text is told `why`."""
  return Tokenizer(_Missing(why, vocab_size), eos_id, pad_id, vocab_size)


@dataclasses.dataclass(frozen=True)
class _Missing:
  why: UserError
  size: int

  def encode(self, texts: list[str]) -> list[list[int]]:
    raise self.why

  def decode(self, ids: list[int]) -> str:
    raise self.why

  def id_of(self, piece: str) -> int | None:
    raise self.why

  def piece(self, number: int) -> str | None:
    raise self.why


def load(name: str | os.PathLike) -> Tokenizer:
  """The tokenizer of a folder, also in a bucket, or of a repository on the hub.

  No code of the folder is run.

  Raises:
    UserError: no such folder, or it holds no tokenizer that can be read.
  """
  folder = bucket.path(name)
  if isinstance(folder, pathlib.Path) and not folder.is_dir():
    folder = _from_hub(str(name))
  kinds = {_READY: _Ready, _PIECES: _Pieces}
  files = [file for file in kinds if (folder / file).is_file()]
  if not files:
    others = [file for file in _OTHERS if (folder / file).is_file()]
    made = (
      f'transformers writes {_READY} from its {others[0]} '
      '(AutoTokenizer.from_pretrained, save_pretrained); or '
      if others
      else ''
    )
    raise UserError(
      f'{name} holds no tokenizer ({_READY} or {_PIECES}); {made}name a folder '
      f'or hub name that does by config.tokenizer, such as {_SUCH}'
    )
  try:
    backend = kinds[files[0]](folder)
    eos_id = _end(backend, folder)
    pad_id = _padding(backend, folder, eos_id)
    backend.unsay([eos_id, pad_id, *_unknown(backend, folder)])
  except UserError:
    raise
  except Exception as error:  # tokenizers raises bare Exception, too
    reason = str(error).strip().split('\n')[0]
    raise UserError(
      f'{folder / files[0]} cannot be read as a tokenizer: {reason}; name '
      'another by config.tokenizer'
    ) from None
  return Tokenizer(
    backend,
    eos_id,
    pad_id,
    backend.size,
    begin=backend.begin,
    joint=' ' if backend.bytes else '',
  )


def _from_hub(name: str) -> pathlib.Path:
  import huggingface_hub
  from huggingface_hub import errors

  try:
    found = huggingface_hub.snapshot_download(
      name, allow_patterns=[_READY, _PIECES, *_SETTINGS]
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


class _Ready:
  """tokenizer.json, through the library that defines it.

  Not through transformers: the ids are the same, and importing it (and torch,
  where that is installed) takes seconds.
  """

  def __init__(self, folder: bucket.Path):
    import tokenizers

    self._text = (folder / _READY).read_text(encoding='utf-8')
    self._own = tokenizers.Tokenizer.from_str(self._text)
    self.size = 1 + max(self._own.get_vocab(with_added_tokens=True).values())
    self.bytes = isinstance(self._own.decoder, tokenizers.decoders.ByteLevel)
    self.begin = self._begin()

  def _begin(self) -> tuple[int, ...]:
    """What the file says to put in front of a text."""
    whole, bare = (
      self._own.encode('a', add_special_tokens=special).ids
      for special in (True, False)
    )
    starts = range(len(whole) - len(bare) + 1)
    at = next((i for i in starts if whole[i : i + len(bare)] == bare), 0)
    return tuple(whole[:at])

  def encode(self, texts: list[str]) -> list[list[int]]:
    found = self._reader.encode_batch_fast(texts, add_special_tokens=False)
    return [one.ids for one in found]

  def decode(self, ids: list[int]) -> str:
    return self._own.decode(ids, skip_special_tokens=False)

  def id_of(self, piece: str) -> int | None:
    return self._own.token_to_id(piece)

  def piece(self, number: int) -> str | None:
    written = self._own.id_to_token(number)
    if written is None or not self.bytes:
      return written
    # Its bytes are written as other letters: 'Ġ' for a space.
    read = self._own.decode([number], skip_special_tokens=False)
    return written if '\ufffd' in read else read.replace(' ', '▁')

  def unsay(self, ids: Sequence[int]) -> None:
    import tokenizers

    pieces = [self._own.id_to_token(i) for i in ids]
    # A reader of its own: what is written and looked up keeps its names.
    text = _renamed(self._text, pieces)
    self._reader = tokenizers.Tokenizer.from_str(text)
    # Many files were saved with somebody's lengths.
    self._reader.no_truncation()
    self._reader.no_padding()


def _renamed(text: str, pieces: Iterable[str]) -> str:
  """A tokenizer.json with other names for pieces, which no text has.

  SentencePiece, by which T5 was trained, reads '</s>' in a text as letters;
  `tokenizers` would end the text there.
  """
  content = json.loads(text)
  # A new name each time, for a known one could be said.
  names = {piece: f'{uuid.uuid4().hex}{piece}' for piece in pieces}
  for token in content.get('added_tokens') or ():
    token['content'] = names.get(token['content'], token['content'])
  model = content['model']
  vocab = model['vocab']
  if isinstance(vocab, dict):
    model['vocab'] = {names.get(piece, piece): i for piece, i in vocab.items()}
  else:
    model['vocab'] = [[names.get(piece, piece), x] for piece, x in vocab]
  if 'unk_token' in model:
    model['unk_token'] = names.get(model['unk_token'], model['unk_token'])
  content['post_processor'] = None
  return json.dumps(content)


class _Pieces:
  """A SentencePiece model, with T5's sentinels put on top."""

  begin, bytes = (), False

  def __init__(self, folder: bucket.Path):
    import sentencepiece

    def make(data: bytes) -> Any:
      return sentencepiece.SentencePieceProcessor(model_proto=data)

    data = (folder / _PIECES).read_bytes()
    self._own = make(data)
    if self.id_of('▁<extra_id_0>') is None:  # mT5 has them among its own
      count = _setting(folder, 'extra_ids', _SENTINELS)
      # The file is a protocol buffer: what is appended to it is a list's end.
      pieces = map(_sentinel, reversed(range(count)))
      self._own = make(data + b''.join(pieces))
    self.size = self._own.get_piece_size()

  def encode(self, texts: list[str]) -> list[list[int]]:
    return self._own.encode(texts)

  def decode(self, ids: list[int]) -> str:
    return self._own.decode(ids)

  def id_of(self, piece: str) -> int | None:
    found = self._own.piece_to_id(piece)
    return found if self._own.id_to_piece(found) == piece else None

  def piece(self, number: int) -> str | None:
    return self._own.id_to_piece(number)

  def unsay(self, ids: Sequence[int]) -> None:
    del ids  # control pieces, which SentencePiece lets no text say


def _sentinel(number: int) -> bytes:
  """ModelProto.pieces += {piece, score: 0, type: USER_DEFINED}."""
  piece = f'▁<extra_id_{number}>'.encode()
  body = _field(1, piece) + b'\x15' + struct.pack('<f', 0) + b'\x18\x04'
  return _field(1, body)


def _field(number: int, content: bytes) -> bytes:
  return bytes([number << 3 | 2, len(content)]) + content


def _setting(folder: bucket.Path, key: str, usual: Any) -> Any:
  """What the folder's settings say, else what is usual."""
  for name in _SETTINGS:
    path = folder / name
    if path.is_file():
      said = json.loads(path.read_text(encoding='utf-8')).get(key)
      if said is not None:
        return said
  return usual


def _end(backend: Backend, folder: bucket.Path) -> int:
  usual = next((e for e in _ENDS if backend.id_of(e) is not None), _ENDS[0])
  return _special(backend, folder, 'eos_token', usual)


def _padding(backend: Backend, folder: bucket.Path, eos_id: int) -> int:
  """The piece that pads; EOS where the folder has none."""
  said = _setting(folder, 'pad_token', None)
  if said is None and backend.id_of('<pad>') is None:
    return eos_id
  return _special(backend, folder, 'pad_token', '<pad>')


def _unknown(backend: Backend, folder: bucket.Path) -> list[int]:
  """The piece for what no other piece has, where there is one."""
  said = _setting(folder, 'unk_token', '<unk>')
  found = backend.id_of(said['content'] if isinstance(said, dict) else said)
  return [] if found is None else [found]


def _special(
  backend: Backend, folder: bucket.Path, key: str, usual: str
) -> int:
  said = _setting(folder, key, usual)
  text = said['content'] if isinstance(said, dict) else said
  found = backend.id_of(text)
  if found is None:
    raise UserError(
      f'the tokenizer in {folder} has no {text!r} (its {key}), which batches '
      'need; name another by config.tokenizer'
    )
  return found
