"""From operations and bytes to seconds, hours and money.

Owns the arithmetic, all of it an expectation: a step takes as long as its
operations at a share of the chip's peak, or its bytes at the full bandwidth of
its memory, whichever is longer. What devices send one another is not in it.
"""

import dataclasses

from ptjax.plan.products import Work
from ptjax.plan.targets import Target


@dataclasses.dataclass(frozen=True)
class Share:
  """What a device does of a step: operations, and bytes of its memory."""

  operations: float
  bytes: float


def share(work: Work, *, devices: int, tensor: int) -> Share:
  """An even share of the work; weights cut over fsdp are read whole.

  Args:
    tensor: parts that each layer is cut in.
  """
  moved = work.frozen / tensor + work.moved / devices
  return Share(work.operations / devices, moved)


def seconds(share_: Share, target: Target, *, reached: float) -> float:
  """How long a step takes where this share of the peak is reached."""
  chip = target.chip
  compute = share_.operations / (chip.peak / chip.devices * reached)
  return max(compute, share_.bytes / (chip.bandwidth / chip.devices))


@dataclasses.dataclass(frozen=True)
class Run:
  """The counts of a whole run."""

  tasks: int
  steps: int  # of each task
  evaluations: int  # of each task
  batches: int  # of each evaluation


def hours(run: Run, *, step: float, evaluation: float) -> float:
  """Of the whole run, by the seconds of a step and of a batch of evaluation."""
  once = run.steps * step + run.evaluations * run.batches * evaluation
  return run.tasks * once / 3600
