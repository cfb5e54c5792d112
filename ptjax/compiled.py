"""Where compiled programs are kept from one start to the next.

Owns the folder's place. jax reads it from the environment when it is imported,
fills it and checks that a program is for this machine; an older one is kept
until the folder is deleted.
"""

import os
import pathlib

_FOLDER = 'JAX_COMPILATION_CACHE_DIR'


def keep(folder: str) -> None:
  """Before jax is imported: programs are kept in `folder`.

  Args:
    folder: 'auto' is ptjax/compiled in the user's cache, '' is nowhere. What
      the environment says comes first.
  """
  if folder == 'auto':
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    folder = f'{base}/ptjax/compiled'
  if folder and _FOLDER not in os.environ:
    os.environ[_FOLDER] = str(pathlib.Path(folder).expanduser())


def place() -> str:
  """The folder in which programs are kept; '' = none."""
  return os.environ.get(_FOLDER, '')
