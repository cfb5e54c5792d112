"""A run's folder in a bucket: worked in here, and followed there.

An object store neither appends nor renames nor locks. So a run works in a
folder of this machine, and what is whole in it goes to the bucket while it
runs. A list of its files, files.json, is written behind them, and only over the
list that this run knows: of two runs the later one has the folder, and the
other one ends. Of several processes it is the first one's folder. Owns that
folder, the list and their order. Knows of a run the names of what is not whole,
and of the file that speaks of others.
"""

import concurrent.futures
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import tempfile
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator

from ptjax import bucket, files, processes, progress, relay, stop
from ptjax.config import UserError

EVERY = 30.0  # seconds between two looks for what is new
_LIST = 'files.json'
# What it speaks of is there, and listed, before it is.
_SPEAKS = 'results.json'
_UNDER_WAY = '.orbax-checkpoint-tmp'
_AT_ONCE = 8

_Stamp = tuple[int, int]  # a file's time of change and size


class Lost(UserError):
  """Another run has the folder."""


def at(flag: str, name: str) -> contextlib.AbstractContextManager[pathlib.Path]:
  """The folder that a flag names, for as long as it is worked in."""
  place = bucket.path(name)
  if not isinstance(place, bucket.Bucket):
    return contextlib.nullcontext(files.local(flag, name))
  if not processes.several():
    return followed(place)
  own = followed(place) if processes.first() else _unfollowed(place)
  return relay.each_within(own)


@contextlib.contextmanager
def followed(there: bucket.Bucket) -> Iterator[pathlib.Path]:
  """A folder here with what lies there, from which all that is new goes there.

  It is deleted when everything is there. Where that fails it stays, and the
  same command on this machine goes on from it.

  Raises:
    UserError: the store cannot be reached, has something else there, or
      another run has gone on with this folder.
  """
  with _held(there) as here:
    progress.call(here, str(there))
    mirror = Mirror(there, here)
    mirror.fetch()
    mirror.send()
    try:
      with _looking(mirror):
        yield here
    finally:
      _end(mirror)


@contextlib.contextmanager
def _unfollowed(there: bucket.Bucket) -> Iterator[pathlib.Path]:
  """A folder here for what nobody keeps; made by who writes there, if any."""
  room = pathlib.Path(tempfile.gettempdir()).resolve() / f'ptjax-{uuid.uuid4()}'
  here = room / (there.name or there.bucket)
  progress.call(here, str(there))
  try:
    yield here
  finally:
    shutil.rmtree(room, ignore_errors=True)


def _end(mirror: 'Mirror') -> None:
  try:
    mirror.send()
  except Lost:
    raise
  except UserError as error:
    raise UserError(
      f'{error}. What the run left is kept on this machine, under '
      f'{mirror.here.parent.parent}, and the same command here goes on from it'
    ) from None
  shutil.rmtree(mirror.here.parent)


@contextlib.contextmanager
def _held(there: bucket.Bucket) -> Iterator[pathlib.Path]:
  """The folder here that belongs to one there, for this process alone."""
  base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  one = urllib.parse.quote(f'{there.bucket}/{there.key}', safe='')
  rooms = pathlib.Path(base).expanduser() / 'ptjax' / 'runs'
  rooms.mkdir(parents=True, exist_ok=True)
  with open(rooms / f'.{one}.lock', 'w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      raise UserError(
        f'{there} is in use by another process of this machine; wait for it or '
        'name another folder'
      ) from None
    # Its last part is the run's name to others.
    yield rooms / one / (there.name or there.bucket)


@contextlib.contextmanager
def _looking(mirror: 'Mirror') -> Iterator[None]:
  """Sends what is new from time to time, in a thread."""
  over = threading.Event()

  def look() -> None:
    while not over.wait(EVERY):
      try:
        mirror.send()
      except Lost:
        if stop.ask():
          return
      except UserError as error:
        progress.say(f'{error}; tried again in {EVERY:.0f} s')

  thread = threading.Thread(target=look, daemon=True)
  thread.start()
  try:
    yield
  finally:
    over.set()
    thread.join()


class Mirror:
  """A folder here and its copy in a bucket."""

  def __init__(self, there: bucket.Bucket, here: pathlib.Path):
    self.there, self.here = there, here
    self._run = uuid.uuid4().hex
    # The list as it was last, here and there; its mark, and what it names.
    self._known = here / f'.{_LIST}'
    self._listed, self._mark = b'', b''
    self._names: set[str] = set()
    self._sent: dict[str, _Stamp] = {}
    self._speech = b''

  def fetch(self) -> None:
    """Makes the folder here what the list there says.

    Raises:
      UserError: there is no list but something else, or it is none.
    """
    self._listed, self._mark = (self.there / _LIST).read_marked()
    if self._listed:
      self._names = _names(self._listed, where=f'{self.there}/{_LIST}')
    elif others := self.there.below():
      raise UserError(
        f'{self.there} holds {others[0]!r} but no {_LIST}, so no run was kept '
        'there; name a new folder'
      )
    if self._listed and self._listed == _content(self._known):
      return  # Nobody went on from there since: what is here may be newer.
    shutil.rmtree(self.here, ignore_errors=True)
    self.here.mkdir(parents=True)
    _each(self._fetch, self._names)
    self._speech = _content(self.here / _SPEAKS)

  def _fetch(self, name: str) -> None:
    path = self.here / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((self.there / name).read_bytes())
    self._sent[name] = _stamp(path)

  def send(self) -> None:
    """Makes the copy there what is whole here.

    Raises:
      Lost: another run has written there.
      UserError: the store cannot be written.
    """
    self._check()
    # First, so that all it speaks of is among the others.
    speech = _content(self.here / _SPEAKS)
    try:
      found = dict(self._whole())
      _each(self._send, [n for n in found if found[n] != self._sent.get(n)])
    except FileNotFoundError:  # an old checkpoint went meanwhile
      self.send()
      return
    gone = self._names - found.keys() - {_SPEAKS}
    self._list(found.keys() | self._names & {_SPEAKS})
    if speech != self._speech:
      (self.there / _SPEAKS).write_bytes(speech)
      self._list(found.keys() | {_SPEAKS})
      self._speech = speech
    _each(self._drop, gone)

  def _whole(self) -> Iterator[tuple[str, _Stamp]]:
    """The files that are no part of something under way."""
    for folder, inner, names in os.walk(self.here):
      inner[:] = filter(_is_whole, inner)
      for name in filter(_is_whole, names):
        path = pathlib.Path(folder, name)
        name = path.relative_to(self.here).as_posix()
        if name != _SPEAKS:
          yield name, _stamp(path)

  def _send(self, name: str) -> None:
    path = self.here / name
    stamp = _stamp(path)  # first: what is appended meanwhile is new again
    (self.there / name).write_bytes(path.read_bytes())
    self._sent[name] = stamp

  def _drop(self, name: str) -> None:
    (self.there / name).unlink()
    self._sent.pop(name, None)

  def _list(self, names: set[str]) -> None:
    said = {'run': self._run, 'files': sorted(names)}
    content = (json.dumps(said, indent=1) + '\n').encode()
    if content == self._listed:
      return
    self._listed = content
    mark = (self.there / _LIST).replace_marked(content, self._mark)
    if mark:
      self._mark = mark
    else:
      self._check()  # it is there after all if only the answer was lost
    self._names = names
    self._known.write_bytes(content)

  def _check(self) -> None:
    """That the list there is the one that this run knows."""
    content, mark = (self.there / _LIST).read_marked()
    if content != self._listed:
      raise Lost(
        f'{self.there}: another run has gone on with this folder, so this one '
        'ends; name another folder for it'
      )
    self._mark = mark


def _names(listed: bytes, *, where: str) -> set[str]:
  """The names in a list, each of a file inside of the folder."""
  try:
    found = json.loads(listed)['files']
    ways = [pathlib.PurePosixPath(name) for name in found]
  except (ValueError, KeyError, TypeError, RecursionError):
    raise UserError(f'{where} is no list of files; name a new folder') from None
  for way in ways:
    if way.is_absolute() or '..' in way.parts or not _is_whole(way.name):
      raise UserError(f'{where} names {str(way)!r}; name a new folder')
  return set(found)


def _is_whole(name: str) -> bool:
  """Whether it is a name of what nobody writes any more, but appends to."""
  return bool(name) and not name.startswith('.') and _UNDER_WAY not in name


def _stamp(path: pathlib.Path) -> _Stamp:
  known = path.stat()
  return known.st_mtime_ns, known.st_size


def _content(path: pathlib.Path) -> bytes:
  """b'' = there is no such file."""
  return path.read_bytes() if path.is_file() else b''


def _each(do: Callable[[str], None], names: Iterable[str]) -> None:
  """Several at once; what one raises, this does."""
  with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
    list(pool.map(do, names))
