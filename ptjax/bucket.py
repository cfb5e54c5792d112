"""Files in a bucket of Google's storage, gs://, read by TensorStore.

Owns such addresses, which offer what is used here of a path, and reading some
bytes of a file wherever it lies. Another store (TENSORSTORE_GCS_HTTP_URL) and
who asks for objects (GOOGLE_APPLICATION_CREDENTIALS, or gcloud's) are
TensorStore's own; without credentials what is public is read. Knows no format.
"""

import dataclasses
import functools
import os
import pathlib
from typing import Any

import numpy as np

from ptjax.config import UserError

SCHEME = 'gs://'
# TensorStore's own are 32, a quarter of an hour until it says what is wrong.
_RETRIES = {'max_retries': 5, 'initial_delay': '500ms', 'max_delay': '4s'}


@dataclasses.dataclass(frozen=True)
class Bucket(os.PathLike):
  """A file or a folder in a bucket, as pathlib.Path would have it.

  Raises:
    UserError: from what reads, if the store does not answer, or not to this
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

  def _read(self, part: slice | None) -> bytes | None:
    """None = there is no such object."""
    import tensorstore

    root = store(Bucket(self.bucket, ''))
    opened = tensorstore.KvStore.open(root, context=context()).result()
    try:
      found = opened.read(self.key, byte_range=part).result()
    except ValueError as error:
      reason = str(error).splitlines()[0].partition(' [')[0]
      if reason.startswith('OUT_OF_RANGE'):
        return b''
      raise UserError(
        f'{self} cannot be read ({reason}); see that it is reached from here '
        'and yours to read, by GOOGLE_APPLICATION_CREDENTIALS or gcloud auth '
        'application-default login'
      ) from None
    return None if found.state == 'missing' else found.value


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
