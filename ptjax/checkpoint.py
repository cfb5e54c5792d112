"""Checkpoints of one task's run: TrainState and the data position.

Owns the files under `checkpoints/`, through Orbax: written aside and renamed,
so a run killed at any instant leaves the last whole one. Writes nothing frozen
and reads no foreign format. The data position is the step, since batches are a
function of (seed, step); it is written beside the state to be held against it.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from ptjax import processes, relay


class _Manager(ocp.CheckpointManager):
  """Saves when it is told to; when to stop is not its to ask."""

  def reached_preemption(self, step: int) -> bool:
    # Asked here too, with other numbers, the processes would miss the step
    # that `stop` agrees on.
    return False


def _alone(folder: pathlib.Path) -> dict[str, Any]:
  """Options by which Orbax waits for no other process."""
  folder.mkdir(parents=True, exist_ok=True)  # which it then leaves to others
  return {
    'create': False,
    'multiprocessing_options': ocp.options.MultiprocessingOptions(
      primary_host=0, active_processes={0}
    ),
  }


class Checkpoints:
  """Saves and restores the state of one task under `folder`.

  Where processes have folders of their own (`relay.apart`) the first one
  writes and reads for all, which it can: what trains lies whole everywhere.
  """

  def __init__(self, folder: pathlib.Path, *, keep: int = 2):
    self._folder, self._apart = folder, relay.apart(folder)
    if self._apart and not processes.first():
      self._manager = None
      return
    self._manager = _Manager(
      folder.absolute(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.LatestN(keep),
        cleanup_tmp_directories=True,
        **(_alone(folder) if self._apart else {}),
      ),
    )

  def latest(self) -> int | None:
    """The step of the newest whole checkpoint."""
    if self._apart:
      return relay.of_first(lambda: self._manager.latest_step())
    return self._manager.latest_step()

  def save(self, step: int, state: Any, position: dict[str, Any]) -> None:
    """Starts writing; returns when the arrays are copied from the device."""
    if self._manager is None or step in self._manager.all_steps():
      return
    if self._apart:
      # Orbax would have an array of several processes written by all of them.
      state = jax.tree.map(np.array, state)
    with self._told():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          position=ocp.args.JsonSave(position),
        ),
        force=True,
      )

  def restore(self, like: Any) -> tuple[Any, dict[str, int]]:
    """(state, data position) of the newest checkpoint.

    Args:
      like: a state of the same shapes; its arrays' places are kept.
    """
    if self._apart:
      return self._restore_for_all(like)
    return self._restore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like))

  def _restore(self, like: Any) -> tuple[Any, dict[str, int]]:
    found = self._manager.restore(
      self._manager.latest_step(),
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(like),
        position=ocp.args.JsonRestore(),
      ),
    )
    return found.state, found.position

  def _restore_for_all(self, like: Any) -> tuple[Any, dict[str, int]]:
    """What the first process reads, bit by bit the same in all."""
    leaves, form = jax.tree.flatten(like)
    read: list[np.ndarray] = []

    def first() -> dict[str, int]:
      hosts = [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
      state, position = self._restore(form.unflatten(hosts))
      read.extend(jax.tree.leaves(state))
      return position

    position = relay.of_first(first)
    out = []
    for i, leaf in enumerate(leaves):
      content = relay.bytes_of_first(lambda i=i: read[i].tobytes())
      values = np.frombuffer(content, leaf.dtype).reshape(leaf.shape)
      out.append(
        jax.make_array_from_callback(
          leaf.shape, leaf.sharding, values.__getitem__
        )
      )
    return form.unflatten(out), position

  def wait(self) -> None:
    """Returns when all that was saved is on disk; raises if it could not."""
    if self._manager is not None:
      with self._told():
        self._manager.wait_until_finished()

  def settle(self) -> None:
    """`wait`, in all processes, which have to call it at the same place."""
    if self._apart:
      relay.of_first(self.wait)
    else:
      self.wait()

  def close(self) -> None:
    if self._manager is not None:
      self._manager.close()

  @contextlib.contextmanager
  def _told(self) -> Iterator[None]:
    """A full disk has one kind of exception in each layer below."""
    try:
      yield
    except Exception as error:
      if processes.lost(error):
        raise
      said = str(error).strip().split('\n')[0][:300]
      raise OSError(
        f'{self._folder}: a checkpoint could not be written ({said}); the '
        'last whole one is kept; the same command in the same --workdir goes '
        'on from it'
      ) from error
