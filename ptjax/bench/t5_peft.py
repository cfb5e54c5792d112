"""T5 under a prompt: PEFT's side, on rows of one length.

Owns what it is asked for: eager torch, as its users write it. Imports no jax,
which its users do not have either.
"""

import json
import pathlib
from typing import Any

import numpy as np

from ptjax.bench import apart, peft_side


class Peft(peft_side.Side):
  """A frozen T5, a prompt in front of its encoder, AdamW; no dropout."""

  task = 'SEQ_2_SEQ_LM'
  # By itself PEFT gives a decoder half of a prompt that it never reads.
  options = {'num_transformer_submodules': 1}

  def load(self, folder: pathlib.Path, dtype: Any) -> Any:
    return self.transformers.AutoModelForSeq2SeqLM.from_pretrained(
      folder, dtype=dtype, dropout_rate=0.0
    )

  def train(self, ids_BxL: np.ndarray, targets_BxT: np.ndarray) -> Any:
    """One update; (loss in nats a token, norm of the gradient) before it."""
    ids, targets = self.put(ids_BxL), self.put(targets_BxT)
    return self.step(ids, self.torch.ones_like(ids), targets)

  def step(self, ids: Any, mask: Any, labels: Any) -> Any:
    """The same, of tensors on the device; labels of -100 do not count."""
    return self.update(
      lambda: self.model(input_ids=ids, attention_mask=mask, labels=labels).loss
    )

  def rank(self, ids_BxL: np.ndarray, choices_BxCxT: np.ndarray) -> Any:
    """Log-probability in nats of each row's choices, a forward pass each."""
    ids, torch = self.put(ids_BxL), self.torch
    mask = torch.ones_like(ids)
    self.model.eval()
    found = []
    with torch.no_grad():
      for targets_BxT in choices_BxCxT.swapaxes(0, 1):
        labels = self.put(targets_BxT)
        logits = self.model(
          input_ids=ids, attention_mask=mask, labels=labels
        ).logits
        logs = torch.log_softmax(logits.float(), dim=-1)
        hits = torch.gather(logs, -1, labels[..., None])
        found.append(hits[..., 0].sum(-1))
      return torch.stack(found, dim=1)

  def generate(self, ids_BxL: np.ndarray, count: int) -> Any:
    """The `count` tokens that are likeliest, one after the other, [B, T]."""
    return self.answers(self.put(ids_BxL), count)[:, 1:]  # behind the start


def first_update(
  folder: pathlib.Path,
  ids_BxL: np.ndarray,
  targets_BxT: np.ndarray,
  *,
  dtype: str,
  prompt: int,
) -> int:
  """One update in this process; the most bytes that it had in memory.

  Args:
    prompt: virtual tokens, zeros.
  """
  config = json.loads((folder / 'config.json').read_text())
  prompt_PxD = np.zeros((prompt, config['d_model']), np.float32)
  side = Peft(folder, dtype=dtype, prompt_PxD=prompt_PxD)
  side.wait(side.train(ids_BxL, targets_BxT))
  return apart.process_peak()
