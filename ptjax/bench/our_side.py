"""ptjax's side of a comparison: the functions of a run, `parts.Parts`.

Owns nothing of its own but the batch; what is timed is what a run calls.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from ptjax import assemble, parts, tree
from ptjax import config as config_lib
from ptjax.data import batch
from ptjax.data.batch import Encoded


def build(folder: pathlib.Path, *, dtype: str, prompt: int) -> parts.Parts:
  """The parts of a run on a model's folder, of the default configuration."""
  settings = {
    'model': str(folder),
    'dtype': dtype,
    'method.length': prompt,
    'method.init': 'vocabulary',
  }
  return assemble.parts(config_lib.update(config_lib.default(), settings))


class Ours:
  """One prompt in training, evaluation and generation."""

  def __init__(self, made: parts.Parts):
    self._made, self._text = made, _full_text(made)
    self._held: dict[Any, Any] = {}
    self.begin()
    (rows,) = jax.tree.leaves(self._state.tuned)
    self.prompt_PxD = np.array(rows[0])  # what the virtual tokens begin as

  def begin(self) -> None:
    """The state before the first update."""
    tuned, self._frozen = self._made.init()
    self._state = self._made.state(tuned)

  def train(self, ids_BxL: np.ndarray, said: int) -> tuple[Any, Any]:
    """One update; (loss in nats a token, norm of the gradient) before it."""
    whole = said == ids_BxL.shape[1]
    made = self._text if whole else self._made
    one = self._batch(ids_BxL, said=1 if whole else said, members=True)
    self._state, metrics = made.train_step(self._state, self._frozen, one)
    return metrics['loss'][0], metrics['grad_norm'][0]

  def evaluate(self, ids_BxL: np.ndarray, said: int) -> tuple[Any, Any]:
    """(log-probability_B in nats, tokens_B) of each row's last `said`."""
    tuned = tree.at(self._state.tuned, 0)
    return self._made.log_probs(
      tuned, self._frozen, self._batch(ids_BxL, said=said)
    )

  def generate(self, ids_BxL: np.ndarray, count: int) -> Any:
    """The `count` tokens that are likeliest, one after the other, [1, B, T]."""
    one = self._batch(ids_BxL, said=0)
    return self._made.answers(
      self._state.tuned, self._frozen, one, max_length=count
    )

  def wait(self, value: Any) -> Any:
    """Until it is computed; as numpy."""
    return jax.device_get(value)

  def peak_bytes(self) -> int | None:
    """Of the device's memory; None on a CPU, where it is the process's."""
    return peak_bytes()

  def _batch(
    self, ids_BxL: np.ndarray, *, said: int, members: bool = False
  ) -> Any:
    """The batch of rows whose last `said` tokens are the answer.

    Made once: in a run the host makes the next one while a step is computed.
    """
    key = ids_BxL.shape, said, members
    if key not in self._held:
      cut = ids_BxL.shape[1] - said
      rows = [Encoded(ids[:cut], ids[cut:]) for ids in ids_BxL]
      made = batch.make(rows, range(len(rows)), shape=(cut, max(1, said)))
      if members:
        made = jax.tree.map(lambda x: x[None], made)
      self._held[key] = jax.device_put(made)
    return self._held[key]


def peak_bytes() -> int | None:
  """The most bytes that the device held; None where it does not say."""
  stats = jax.local_devices()[0].memory_stats() or {}
  return stats.get('peak_bytes_in_use')


def _full_text(made: parts.Parts) -> parts.Parts:
  """The same model, whose inputs are to be said too."""
  config = made.config.copy_and_resolve_references()
  config.train.loss = 'text'
  return dataclasses.replace(made, config=config)
