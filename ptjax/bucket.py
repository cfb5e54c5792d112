"""Files in a bucket of Google's storage, gs://, by TensorStore.

Owns such addresses, which offer what is used here of a path, and reading some
bytes of a file wherever it lies. Another store (TENSORSTORE_GCS_HTTP_URL) and
who asks for objects (GOOGLE_APPLICATION_CREDENTIALS, or gcloud's) are
TensorStore's own; without credentials what is public is read. Knows no format.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ptjax import progress
from ptjax.config import UserError

SCHEME = 'gs://'
# TensorStore's own are 32, a quarter of an hour until it says what is wrong.
_RETRIES = {'max_retries': 5, 'initial_delay': '500ms', 'max_delay': '4s'}


@dataclasses.dataclass(frozen=True)
class Bucket(os.PathLike):
  """A file or a folder in a bucket, as pathlib.Path would have it.

  Raises:
    UserError: from what asks, if the store does not answer, or not to this
      user.
  """

  bucket: str
  key: str  # without slashes around it; may be empty

  def __str__(self) -> str:
    return f'{SCHEME}{self.bucket}/{self.key}'.rstrip('/')

  def __fspath__(self) -> str:
    return str(self)

  def __truediv__(self, name: str) -> 'Bucket':
    return Bucket(self.bucket, f'{self.key}/{name}'.strip('/'))

  @property
  def suffix(self) -> str:
    return pathlib.PurePosixPath(self.key).suffix

  @property
  def name(self) -> str:
    return pathlib.PurePosixPath(self.key).name

  def is_file(self) -> bool:
    # No bytes are asked for, which is to ask whether there are any.
    return self._read(slice(0, 0)) is not None

  def read_bytes(self) -> bytes:
    content = self._read(None)
    if content is None:
      raise FileNotFoundError(2, 'No such object', str(self))
    return content

  def read_text(self, encoding: str = 'utf-8') -> str:
    return self.read_bytes().decode(encoding)

  def read_part(self, start: int, stop: int) -> bytes:
    """These bytes; none if it does not have all of them."""
    return self._read(slice(start, stop)) or b''

  def write_bytes(self, content: bytes) -> None:
    with self._told('written'):
      _client(self.bucket).write(self.key, content).result()

  def unlink(self) -> None:
    """Whether it is there or not."""
    with self._told('deleted'):
      _client(self.bucket).write(self.key, None).result()

  def read_marked(self) -> tuple[bytes, bytes]:
    """(its content, b'' = there is none; the mark of this very content)."""
    with self._told('read'):
      found = _client(self.bucket).read(self.key).result()
    return found.value, found.stamp.generation

  def replace_marked(self, content: bytes, mark: bytes) -> bytes:
    """Writes it if its mark is still this one; the new mark, b'' = not done."""
    with self._told('written'):
      done = _client(self.bucket).write(self.key, content, if_equal=mark)
      return done.result().generation

  def below(self) -> list[str]:
    """The names of all files in this folder, by their ways from here."""
    import tensorstore

    # The first character behind the slash that ends the folder's own name.
    inside = f'{self.key}/' if self.key else ''
    beyond = f'{self.key}0' if self.key else ''
    with self._told('listed'):
      among = tensorstore.KvStore.KeyRange(inside, beyond)
      keys = _client(self.bucket).list(among).result()
    return [key.decode()[len(inside) :] for key in keys]

  def _read(self, part: slice | None) -> bytes | None:
    """None = there is no such object; b'' also if it has not this part."""
    with self._told('read'):
      read = _client(self.bucket).read(self.key, byte_range=part)
      try:
        found = read.result()
      except ValueError as error:
        if not str(error).startswith('OUT_OF_RANGE'):
          raise
        return b''
    return None if found.state == 'missing' else found.value

  @contextlib.contextmanager
  def _told(self, done: str) -> Iterator[None]:
    try:
      yield
    except ValueError as error:
      reason = str(error).splitlines()[0].partition(' [')[0]
      raise UserError(
        f'{self} cannot be {done} ({reason}); see that it is reached from here '
        'and yours to use, by GOOGLE_APPLICATION_CREDENTIALS or gcloud auth '
        'application-default login'
      ) from None


def _client(bucket: str) -> Any:
  import tensorstore

  root = store(Bucket(bucket, ''))
  return tensorstore.KvStore.open(root, context=context()).result()


Path = pathlib.Path | Bucket


def parse(address: str) -> Bucket:
  """gs://BUCKET/FOLDER.

  Raises:
    UserError: it names no bucket.
  """
  bucket, _, key = address.removeprefix(SCHEME).partition('/')
  if not bucket:
    raise UserError(f'{address} names no bucket; expected gs://BUCKET/FOLDER')
  return Bucket(bucket, key.strip('/'))


def path(name: str | os.PathLike) -> Path:
  """What a name stands for: an address in a bucket, or a path here."""
  name = str(name)
  if name.startswith(SCHEME):
    return parse(name)
  return pathlib.Path(name).expanduser()


Choice = Callable[[Sequence[str]], Sequence[str]]


def copied(name: str, choose: Choice = list) -> pathlib.Path:
  """What a name stands for, on this machine; from a bucket it is copied first.

  For small things that are read whole, such as data. The copy lives as long as
  this process, which tells of it by its address.

  Args:
    choose: of the files of a folder, by their ways from there, those that are
      needed.

  Raises:
    UserError: there is no such file, nor are there any in such a folder.
  """
  place = path(name)
  return _copy(place, choose) if isinstance(place, Bucket) else place


@functools.cache
def _copy(place: Bucket, choose: Choice) -> pathlib.Path:
  found = []
  if place.key:  # All of a bucket may be anything.
    found = [''] if place.is_file() else place.below()
  if not found:
    raise UserError(f'{place}: no such file, nor a folder with files in it')
  ways = choose(found) if found != [''] else found
  if not ways:
    raise UserError(f'{place} holds {found[0]!r}, and nothing of use here')
  here = _copies() / place.bucket / place.key
  for way in ways:
    copy = here / way
    if not copy.resolve().is_relative_to(here):
      raise UserError(f'{place / way} is no name that a file here can have')
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes((place / way if way else place).read_bytes())
  return here


def _copies() -> pathlib.Path:
  folder = pathlib.Path(_room().name).resolve()
  progress.call(folder, SCHEME.removesuffix('/'))
  return folder


@functools.cache
def _room() -> tempfile.TemporaryDirectory:
  return tempfile.TemporaryDirectory(prefix='ptjax-')


def part(file: Path, start: int, stop: int) -> bytes:
  """Bytes start to stop of a file; fewer, or none, where it ends before."""
  if isinstance(file, Bucket):
    return file.read_part(start, stop)
  with file.open('rb') as opened:
    opened.seek(start)
    return opened.read(stop - start)


def values(
  file: Path, dtype: np.dtype, *, count: int, offset: int
) -> np.ndarray:
  """Numbers from a byte on; fewer, or none, where the file ends before."""
  if isinstance(file, Bucket):
    stop = offset + count * dtype.itemsize
    return np.frombuffer(file.read_part(offset, stop), dtype)
  return np.fromfile(file, dtype, count=count, offset=offset)


def store(place: Path) -> dict[str, Any]:
  """TensorStore's spec of what lies at a place."""
  if isinstance(place, Bucket):
    return {'driver': 'gcs', 'bucket': place.bucket, 'path': place.key}
  return {'driver': 'file', 'path': str(place.absolute())}


@functools.cache
def context() -> Any:
  """What all that is opened shares."""
  import tensorstore

  return tensorstore.Context({'gcs_request_retries': _RETRIES})
