"""Model folders in a bucket of Google's storage, gs://, read by TensorStore.

Owns such addresses, how a file of a folder is read whole, and the spec by which
an array in it is opened; of a folder on a disk too, so that who reads need not
ask. Another store (TENSORSTORE_GCS_HTTP_URL) and who asks for objects
(GOOGLE_APPLICATION_CREDENTIALS, or gcloud's) are TensorStore's own; without
credentials what is public is read.
"""

import dataclasses
import functools
import os
import pathlib
from typing import Any

from ptjax.config import UserError

SCHEME = 'gs://'
# TensorStore's own are 32, a quarter of an hour until it says what is wrong.
_RETRIES = {'max_retries': 5, 'initial_delay': '500ms', 'max_delay': '4s'}


@dataclasses.dataclass(frozen=True)
class Bucket(os.PathLike):
  """A folder in a bucket."""

  name: str
  path: str  # without slashes around it; may be empty

  def __str__(self) -> str:
    return f'{SCHEME}{self.name}/{self.path}'.rstrip('/')

  def __fspath__(self) -> str:
    return str(self)


Folder = pathlib.Path | Bucket


def parse(address: str) -> Bucket:
  """gs://BUCKET/FOLDER.

  Raises:
    UserError: it names no bucket.
  """
  name, _, path = address.removeprefix(SCHEME).partition('/')
  if not name:
    raise UserError(f'{address} names no bucket; expected gs://BUCKET/FOLDER')
  return Bucket(name, path.strip('/'))


def store(folder: Folder, path: str) -> dict[str, Any]:
  """TensorStore's spec of what lies under `path` in a folder."""
  if isinstance(folder, pathlib.Path):
    return {'driver': 'file', 'path': str((folder / path).absolute())}
  whole = f'{folder.path}/{path}'.strip('/')
  return {'driver': 'gcs', 'bucket': folder.name, 'path': whole}


@functools.cache
def context() -> Any:
  """What all that is opened shares."""
  import tensorstore

  return tensorstore.Context({'gcs_request_retries': _RETRIES})


def read(folder: Folder, name: str) -> bytes | None:
  """A file of a folder; None = it has none of that name.

  Raises:
    UserError: the store does not answer, or not to this user.
  """
  if isinstance(folder, pathlib.Path):
    path = folder / name
    return path.read_bytes() if path.is_file() else None
  import tensorstore

  opened = tensorstore.KvStore.open(store(folder, ''), context=context())
  try:
    found = opened.result().read(f'/{name}' if folder.path else name).result()
  except ValueError as error:
    reason = str(error).splitlines()[0].partition(' [')[0]
    raise UserError(
      f'{folder}/{name} cannot be read ({reason}); see that it is reached '
      'from here and yours to read, by GOOGLE_APPLICATION_CREDENTIALS or '
      'gcloud auth application-default login'
    ) from None
  return None if found.state == 'missing' else found.value
