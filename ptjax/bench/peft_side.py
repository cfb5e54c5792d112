"""PEFT's prompt tuning, as its users run it.

Owns all that is torch's; imported only where it is measured. An extra of the
benchmark: pip install 'ptjax[bench]'.
"""

import abc
import importlib.util
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

NEEDS = ('peft', 'torch', 'transformers')


def missing() -> str:
  """One sentence on what is not installed; '' = nothing."""
  gone = [name for name in NEEDS if importlib.util.find_spec(name) is None]
  if not gone:
    return ''
  verb = 'is' if len(gone) == 1 else 'are'
  return (
    f"without PEFT's side, as {', '.join(gone)} {verb} not installed: pip "
    "install 'ptjax[bench]'"
  )


class Side(abc.ABC):
  """A frozen model, a prompt, AdamW; eager, in training mode, no dropout.

  Args:
    prompt_PxD: what the virtual tokens begin as.
    device: as torch names it.
  """

  task: str  # as PEFT names it
  options: dict[str, Any] = {}  # of its configuration

  def __init__(
    self,
    folder: pathlib.Path,
    *,
    dtype: str,
    prompt_PxD: np.ndarray,
    device: str = 'cpu',
  ):
    # Nothing of it is on the hub.
    os.environ.setdefault('HF_HUB_OFFLINE', '1')
    import peft
    import torch
    import transformers

    torch.set_num_threads(_cores())
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    self.torch, self.transformers = torch, transformers
    self.device = torch.device(device)
    config = peft.PromptTuningConfig(
      task_type=self.task, num_virtual_tokens=len(prompt_PxD), **self.options
    )
    model = self.load(folder, getattr(torch, dtype))
    self.model = peft.get_peft_model(model, config).to(self.device)
    (self._prompt,) = [p for p in self.model.parameters() if p.requires_grad]
    self._began = torch.from_numpy(np.array(prompt_PxD))
    self._optimizer = torch.optim.AdamW([self._prompt])
    self.begin()

  @abc.abstractmethod
  def load(self, folder: pathlib.Path, dtype: Any) -> Any:
    """The frozen model of a folder."""

  def begin(self) -> None:
    """The state before the first update."""
    with self.torch.no_grad():
      self._prompt.copy_(self._began)

  def update(self, forward: Callable[[], Any]) -> tuple[Any, Any]:
    """One update; (loss in nats a token, norm of the gradient) before it."""
    self.model.train()
    self._optimizer.zero_grad()
    loss = forward()
    loss.backward()
    norm = self._prompt.grad.norm()
    self._optimizer.step()
    return loss.detach(), norm

  def answers(self, ids: Any, count: int) -> Any:
    """Exactly `count` tokens behind what stands in front of an answer."""
    self.model.eval()
    with self.torch.no_grad():
      return self.model.generate(
        input_ids=ids,
        attention_mask=self.torch.ones_like(ids),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
      )

  def wait(self, value: Any) -> Any:
    """Until it is computed; as numpy."""
    if isinstance(value, tuple):
      return tuple(map(self.wait, value))
    return value.float().cpu().numpy()

  def peak_bytes(self) -> int | None:
    """Of the device's memory; None on a CPU, where it is the process's."""
    if self.device.type == 'cpu':
      return None
    return self.torch.cuda.max_memory_allocated(self.device)

  def put(self, ids_BxL: np.ndarray) -> Any:
    """Ids on the device."""
    ids = self.torch.from_numpy(np.asarray(ids_BxL, np.int64))
    return ids.to(self.device)


class Peft(Side):
  """A decoder-only model, whose rows are text and answer in one."""

  task = 'CAUSAL_LM'

  def load(self, folder: pathlib.Path, dtype: Any) -> Any:
    return self.transformers.AutoModelForCausalLM.from_pretrained(
      folder, dtype=dtype
    )

  def train(self, ids_BxL: np.ndarray, said: int) -> tuple[Any, Any]:
    """One update; (loss in nats a token, norm of the gradient) before it."""
    return self.update(lambda: self._forward(ids_BxL, said))

  def evaluate(self, ids_BxL: np.ndarray, said: int) -> Any:
    """Nats a token of the last `said` tokens of each row."""
    self.model.eval()
    with self.torch.no_grad():
      return self._forward(ids_BxL, said)

  def generate(self, ids_BxL: np.ndarray, count: int) -> Any:
    """The `count` tokens that are likeliest, one after the other, [B, T]."""
    return self.answers(self.put(ids_BxL), count)[:, -count:]

  def _forward(self, ids_BxL: np.ndarray, said: int) -> Any:
    ids = self.put(ids_BxL)
    labels = ids.clone()
    labels[:, : ids.shape[1] - said] = -100
    mask = self.torch.ones_like(ids)
    return self.model(input_ids=ids, attention_mask=mask, labels=labels).loss


def _cores() -> int:
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
