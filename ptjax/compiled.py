"""Compiled programs: where they are kept between starts, and their number.

Owns the folder's place. jax reads it from the environment when it is imported,
fills it and checks that a program is for this machine; an older one is kept
until the folder is deleted.
"""

import functools
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


class Programs:
  """`count` of them were compiled, or read from the folder, in this process."""

  def __init__(self) -> None:
    self.count = 0

  def note(self, event: str, seconds: float, **about: str) -> None:
    """What jax calls when anything took so long."""
    del seconds, about
    self.count += event == '/jax/core/compile/backend_compile_duration'


@functools.cache
def programs() -> Programs:
  """The one of this process, counted from the first call on."""
  import jax

  found = Programs()
  jax.monitoring.register_event_duration_secs_listener(found.note)
  return found
