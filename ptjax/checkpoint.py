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
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from ptjax import processes


class _Manager(ocp.CheckpointManager):
  """Saves when it is told to; when to stop is not its to ask."""

  def reached_preemption(self, step: int) -> bool:
    # Asked here too, with other numbers, the processes would miss the step
    # that `stop` agrees on.
    return False


class Checkpoints:
  """Saves and restores the state of one task under `folder`."""

  def __init__(self, folder: pathlib.Path, *, keep: int = 2):
    self._folder = folder
    self._manager = _Manager(
      folder.absolute(),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.LatestN(keep),
        cleanup_tmp_directories=True,
      ),
    )

  def latest(self) -> int | None:
    """The step of the newest whole checkpoint."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any, position: dict[str, Any]) -> None:
    """Starts writing; returns when the arrays are copied from the device."""
    if step in self._manager.all_steps():
      return
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
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    found = self._manager.restore(
      self._manager.latest_step(),
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract),
        position=ocp.args.JsonRestore(),
      ),
    )
    return found.state, found.position

  def wait(self) -> None:
    """Returns when all that was saved is on disk; raises if it could not."""
    with self._told():
      self._manager.wait_until_finished()

  def close(self) -> None:
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
