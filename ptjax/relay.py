"""What the first process has, in all of them: words, bytes, files of a folder.

Owns what passes between processes beside arrays of a mesh, and folders of which
each has its own. Only the first one's count: it says what it finds there, and
the others read nothing. With one process everything here does nothing.
"""

import contextlib
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jax.experimental import multihost_utils

from ptjax import processes
from ptjax.config import UserError

# Seconds that a process which failed waits for the first to fail alike.
_ALIKE = 30
# Milliseconds to wait for what the first process does: it may take its time,
# and if it dies the heartbeat ends the others.
_WEEK = 7 * 24 * 3600 * 1000
# Bytes that the coordinator passes on; of more the devices do it.
_LITTLE = 1 << 12

_numbers = itertools.count()  # of what was asked of the first process


def of_first(make: Callable[[], Any]) -> Any:
  """What the first process finds, in all of them, as JSON says it.

  All call it at the same place, and the others wait however long it takes.

  Raises:
    Exception: in all of them, if it does in the first.
  """
  if not processes.several():
    return make()
  return json.loads(bytes_of_first(lambda: json.dumps(make()).encode()))


def bytes_of_first(make: Callable[[], bytes]) -> bytes:
  """`of_first` of bytes."""
  if not processes.several():
    return make()
  return _passed(f'ptjax/{next(_numbers)}', make)


def _passed(key: str, make: Callable[[], bytes]) -> bytes:
  """What the first process makes; the others get it under this key."""
  client = processes.client()
  if processes.first():
    try:
      made = make()
    except Exception as error:
      client.key_value_set_bytes(key, b'!' + _put(error))
      raise
    little = len(made) <= _LITTLE
    said = b'=' + made if little else b'#%d' % len(made)
    client.key_value_set_bytes(key, said)
  else:
    said = client.blocking_key_value_get_bytes(key, _WEEK)
    if said[:1] == b'!':
      raise _got(said[1:])
    little = said[:1] == b'='
    made = said[1:] if little else bytes(int(said[1:]))
  if little:
    return made
  values = np.frombuffer(made, np.uint8)
  return multihost_utils.broadcast_one_to_all(values).tobytes()


_KINDS = {kind.__name__: kind for kind in (UserError, OSError)}


def _put(error: Exception) -> bytes:
  names = [name for name, kind in _KINDS.items() if isinstance(error, kind)]
  return json.dumps([*names, 'other'][:1] + [str(error)]).encode()


def _got(said: bytes) -> Exception:
  name, text = json.loads(said)
  return _KINDS.get(name, RuntimeError)(text)


_apart: list[pathlib.Path] = []


@contextlib.contextmanager
def each_within(
  own: contextlib.AbstractContextManager[pathlib.Path],
) -> Iterator[pathlib.Path]:
  """A folder of each process, of which the first one's counts.

  They go in and out together, and what goes wrong for the first at either door
  all raise. See `apart`.

  Args:
    own: of the first process, what has to be done around its folder.
  """
  with contextlib.ExitStack() as stack:
    found: list[pathlib.Path] = []

    def enter() -> bytes:
      found.append(stack.enter_context(own))
      return b''

    bytes_of_first(enter)
    if not processes.first():
      enter()
    (here,) = found
    _apart.append(here)
    try:
      yield here
    except BaseException:
      if _all_leave():
        _leave(stack)
      raise
    else:
      _leave(stack)
    finally:
      _apart.remove(here)


def _all_leave() -> bool:
  """Whether the first process leaves too, and not this one alone."""
  client = processes.client()
  if processes.first():
    client.key_value_set_bytes('ptjax/leaves', b'')
    return True
  try:
    seconds = _ALIKE
    client.blocking_key_value_get_bytes('ptjax/leaves', seconds * 1000)
  except RuntimeError:
    return False
  return True


def _leave(stack: contextlib.ExitStack) -> None:
  """Once in the life of a process."""

  def leave() -> bytes:
    stack.close()
    return b''

  _passed('ptjax/left', leave)


def apart(folder: pathlib.Path) -> bool:
  """Whether each process has its own of this folder, where all else is one.

  What the first writes there the others do not find.
  """
  return any(folder.is_relative_to(own) for own in _apart)


def share(folder: pathlib.Path) -> None:
  """Returns when all processes find what the first has written there."""
  if not apart(folder):
    processes.wait(f'what is in {folder.name}')
    return
  files = folder.rglob('*')
  for name in of_first(
    lambda: [str(f.relative_to(folder)) for f in files if f.is_file()]
  ):
    file = folder / name
    content = bytes_of_first(file.read_bytes)
    if not processes.first():
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_bytes(content)
