"""Several processes of one run: how they meet, agree, stop and end.

Owns jax.distributed. The first process speaks and writes for all; what goes
wrong in one ends all. Knows no mesh, no task and no file format. With one
process everything here does nothing.
"""

import contextlib
import hashlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # its client has no public name
from jax.experimental import multihost_utils

from ptjax.config import UserError

# Seconds without a sign of life after which a process counts as dead.
_HEARTBEAT = 20
# Seconds that a process which failed waits for the others to fail alike.
_ALIKE = 5
_AUTO = 'auto'


def start(settings: Any) -> None:
  """Meets the other processes that `config.distributed` tells of.

  Where it is silent the environment is asked: JAX_COORDINATOR_ADDRESS,
  JAX_NUM_PROCESSES and JAX_PROCESS_ID. Call it before jax computes.

  Raises:
    UserError: what is said cannot be.
  """
  coordinator = settings.coordinator or _environment('COORDINATOR_ADDRESS', '')
  if not coordinator:
    return
  options: dict[str, Any] = {}
  if coordinator != _AUTO:
    options = _members(settings, coordinator)
  with _patience(settings.timeout, options):
    try:
      jax.distributed.initialize(
        **options,
        # The sentence is ours, and comes first.
        initialization_timeout=settings.timeout + 60,
        heartbeat_timeout_seconds=_HEARTBEAT,
        shutdown_timeout_seconds=60,
      )
    except (RuntimeError, ValueError) as error:
      raise UserError(
        f'distributed.coordinator={coordinator}: the processes cannot meet: '
        f'{str(error).splitlines()[0]}'
      ) from None
  if not first():
    # One speaks for all. Below Python too, where libraries print.
    logging.getLogger().setLevel(logging.ERROR)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _environment(name: str, usual: Any) -> Any:
  return os.environ.get(f'JAX_{name}', usual)


def _members(settings: Any, coordinator: str) -> dict[str, Any]:
  host, colon, port = coordinator.rpartition(':')
  if not (host and colon and port.isdigit()):
    raise UserError(
      f'distributed.coordinator={coordinator!r} must be HOST:PORT of process '
      f'0, or {_AUTO} where SLURM, Kubernetes or a TPU pod says it'
    )
  try:
    count = settings.processes or int(_environment('NUM_PROCESSES', 0))
    index = settings.process
    index = int(_environment('PROCESS_ID', -1)) if index < 0 else index
  except ValueError as error:
    raise UserError(f'JAX_NUM_PROCESSES, JAX_PROCESS_ID: {error}') from None
  if count < 1 or not 0 <= index < count:
    raise UserError(
      f'distributed.processes={count} and distributed.process={index}: with a '
      'coordinator, say how many processes there are and which, from 0, this '
      'one is'
    )
  return {
    'coordinator_address': coordinator,
    'num_processes': count,
    'process_id': index,
  }


@contextlib.contextmanager
def _patience(seconds: int, options: Mapping[str, Any]) -> Iterator[None]:
  """Ends the process with a sentence where jax would end it with a stack."""

  def end() -> None:
    print(f'ptjax: {_lonely(seconds, options)}', file=sys.stderr, flush=True)
    os._exit(2)

  timer = threading.Timer(seconds, end)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def _lonely(seconds: int, options: Mapping[str, Any]) -> str:
  if not options:
    return (
      f'distributed.coordinator={_AUTO}: the processes did not meet within '
      f'distributed.timeout={seconds} s'
    )
  index, count = options['process_id'], options['num_processes']
  place = options['coordinator_address']
  host, _, port = place.rpartition(':')
  if index:
    try:
      socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
      return (
        f'process {index} of {count} found no coordinator at {place} within '
        f'distributed.timeout={seconds} s; start process 0 there, or name its '
        'place by distributed.coordinator'
      )
  return (
    f'process {index} of {count} waited distributed.timeout={seconds} s at '
    f'{place} and not all others came; start all {count}'
  )


def several() -> bool:
  """Whether this run has more than one process."""
  return distributed.global_state.num_processes > 1


def first() -> bool:
  """Whether this is the process that speaks and writes."""
  return distributed.global_state.process_id == 0


def agree(said: Mapping[str, Any]) -> None:
  """Holds what each process was told against the others'.

  Raises:
    UserError: in all of them, with the hashes and the keys that differ.
  """
  if not several():
    return
  keys = sorted(said)
  each = [_digest(f'{key}={said[key]!r}') for key in keys]
  whole = _digest(' '.join(d.hex() for d in each))
  known = np.frombuffer(_digest(' '.join(keys)) + whole, np.uint8)
  found = multihost_utils.process_allgather(known)
  other = next((i for i, row in enumerate(found) if any(row != found[0])), 0)
  if not other:
    return
  where = 'their versions of ptjax'
  if (found[:, : len(whole)] == found[0, : len(whole)]).all():
    rows = np.stack([np.frombuffer(d, np.uint8) for d in each])
    all_ = multihost_utils.process_allgather(rows)
    differs = (all_ != all_[0]).any(axis=(0, 2))
    where = ', '.join(key for key, odd in zip(keys, differs) if odd)
  one, two = (found[i, len(whole) :].tobytes().hex()[:16] for i in (0, other))
  raise UserError(
    f'the processes do not agree: the configuration of process 0 has hash '
    f'{one}, that of process {other} has {two}; they differ in {where}'
  )


def _digest(text: str) -> bytes:
  return hashlib.sha256(text.encode()).digest()


@contextlib.contextmanager
def first_enters(
  context: contextlib.AbstractContextManager,
) -> Iterator[None]:
  """The first process is within `context`, and the others go along.

  Raises:
    UserError: in the others, where the first could not enter.
  """
  with contextlib.ExitStack() as stack:
    error = None
    if first():
      try:
        stack.enter_context(context)
      except Exception as found:
        error = found
    if several():
      failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
      if failed and error is None:
        error = UserError('refused by process 0')
    if error is not None:
      raise error
    yield


def client() -> Any:
  """Of the coordinator: what passes words between processes, by no device."""
  return distributed.global_state.client


def wait(name: str) -> None:
  """Returns when all processes are here."""
  if several():
    multihost_utils.sync_global_devices(name)


def asked_to_stop(count: int) -> bool:
  """Whether all are to stop here, since one of them got SIGTERM.

  Args:
    count: of the calls; each process asks at the same places.
  """
  return several() and multihost_utils.reached_preemption_sync_point(count)


def failed_alike() -> bool:
  """Whether the other processes failed, too; waits a little for them."""
  if not several():
    return True
  try:
    client().wait_at_barrier('failed', _ALIKE * 1000)
  except RuntimeError:
    return False
  return True


def leave(code: int) -> None:
  """Ends this process and so, when they notice, all others."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def lost(error: Exception) -> bool:
  """Whether an error is what remains of another process."""
  signs = ('Gloo', 'NCCL', 'Socket closed', 'Connection reset', 'UNAVAILABLE')
  return several() and any(sign in str(error) for sign in signs)
