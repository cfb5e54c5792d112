"""Files that are whole or not there, and names near one that is missing.

Owns writing aside and renaming, and what is a name of a file. Knows no format.
"""

import contextlib
import difflib
import os
import pathlib
from collections.abc import Iterator

from ptjax.config import UserError


@contextlib.contextmanager
def replaced(
  path: str | os.PathLike, *, sync: bool = False
) -> Iterator[pathlib.Path]:
  """The name to write under; renamed to `path` at the end, folders made.

  After an error there is no new file, and an old one is as it was. Who may read
  it the user's umask says, whatever wrote it: safetensors makes files that are
  for their owner alone.

  Args:
    sync: wait until the content is on the disk, so that not even a power cut
      leaves a name without it.
  """
  path = pathlib.Path(path)
  aside = path.with_name(f'.{path.name}.part')
  path.parent.mkdir(parents=True, exist_ok=True)
  aside.unlink(missing_ok=True)
  aside.touch()
  mode = aside.stat().st_mode
  try:
    yield aside
    if aside.stat().st_mode != mode:
      aside.chmod(mode)
    if sync:
      with open(aside, 'rb') as file:
        os.fsync(file.fileno())
    os.replace(aside, path)
  finally:
    aside.unlink(missing_ok=True)


def local(flag: str, name: str | os.PathLike) -> pathlib.Path:
  """The path that a flag names; ~ is the user's home.

  Raises:
    UserError: it is an address, such as s3://bucket/run, which a file system
      would take for a folder of that name here.
  """
  scheme, mark, _ = str(name).partition('://')
  if mark and scheme.isalnum():
    raise UserError(
      f'{flag}={name}: nothing is written to {scheme}:// itself; name a '
      'folder, on a disk that all hosts share where there are several'
    )
  return pathlib.Path(name).expanduser()


def near(path: pathlib.Path, *, folders: bool = False) -> str:
  """', did you mean …?' of what lies beside a missing file or folder."""
  if not path.parent.is_dir():
    return ''
  kind = pathlib.Path.is_dir if folders else pathlib.Path.is_file
  # By their own names: whole paths are near each other by what they share.
  beside = {p.name: p for p in path.parent.iterdir() if kind(p)}
  found = difflib.get_close_matches(path.name, beside, n=1)
  return f', did you mean {str(beside[found[0]])!r}?' if found else ''
