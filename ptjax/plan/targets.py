"""Accelerators by name: how many, what they hold and how fast they are.

Owns the table of chips, with whose figures these are, and what a target's name
may be. Knows no model, and asks no device.
"""

import dataclasses
import math
import re

from ptjax.config import UserError, one_of

GIB = 2**30

# The makers' pages, as of 2026.
_GOOGLE = 'https://docs.cloud.google.com/tpu/docs/'
_NVIDIA = 'https://www.nvidia.com/en-us/data-center/'


@dataclasses.dataclass(frozen=True)
class Chip:
  """One kind of accelerator.

  Attributes:
    platform: tpu or gpu, as jax calls it.
    memory: bytes of one chip.
    peak: bfloat16 operations a second of a chip, dense.
    bandwidth: bytes a second between a chip and its memory.
    source: the page with these figures.
    axes: numbers in the name of a topology; 0 = a count of chips.
    devices: what jax sees of a chip, each with its part of all that.
    taken: share of the memory that jax takes, unless it is told otherwise.
  """

  platform: str
  memory: int
  peak: float
  bandwidth: float
  source: str
  axes: int = 0
  devices: int = 1
  taken: float = 1.0


def _tpu(gib: int, tera: float, giga: float, page: str, **more) -> Chip:
  source = _GOOGLE + page
  return Chip('tpu', gib * GIB, tera * 1e12, giga * 1e9, source, **more)


def _gpu(gb: int, tera: float, giga: float, page: str) -> Chip:
  # XLA_PYTHON_CLIENT_MEM_FRACTION is 0.75 where nobody sets it.
  source, memory = _NVIDIA + page, gb * 10**9
  return Chip('gpu', memory, tera * 1e12, giga * 1e9, source, taken=0.75)


# Each by the page of its source. That of tpu7x has v5p, v6e and tpu7x in one
# table: 2765, 1638 and 7380 GB/s. That of v5p says the same as 2575 GiB/s; that
# of v6e has said 1600 and 1640 too, that of v5e 800 GiB/s for 819 GB/s.
CHIPS = {
  'v4': _tpu(32, 275, 1200, 'v4', axes=3),
  'v5e': _tpu(16, 197, 819, 'v5e', axes=2),
  'v5p': _tpu(95, 459, 2765, 'v5p', axes=3),
  'v6e': _tpu(32, 918, 1638, 'v6e', axes=2),
  'tpu7x': _tpu(192, 2307, 7380, 'tpu7x', axes=3, devices=2),
  'a100': _gpu(80, 312, 2039, 'a100/'),
  'h100': _gpu(80, 989, 3350, 'h100/'),
  'h200': _gpu(141, 989, 4800, 'h200/'),
}
_EXAMPLES = {
  'v4': 'v4:2x2x2',
  'v5e': 'v5e:2x4',
  'v5p': 'v5p:2x2x1',
  'v6e': 'v6e:2x4',
  'tpu7x': 'tpu7x:2x2x1',
}


@dataclasses.dataclass(frozen=True)
class Target:
  """So many chips of one kind.

  Attributes:
    name: as it was asked for.
    kind: a key of CHIPS.
    chips: how many.
    topology: of TPUs, such as 2x4; else empty.
  """

  name: str
  kind: str
  chips: int
  topology: str = ''

  @property
  def chip(self) -> Chip:
    return CHIPS[self.kind]

  @property
  def devices(self) -> int:
    """What jax sees, and a mesh is made of."""
    return self.chips * self.chip.devices

  @property
  def memory(self) -> float:
    """Bytes of a device."""
    return self.chip.memory / self.chip.devices

  @property
  def held(self) -> float:
    """Bytes of a device that jax takes unless it is told otherwise."""
    return self.memory * self.chip.taken


def parse(text: str) -> Target:
  """'v5e:2x4', 'h100:8' or 'h100'.

  Raises:
    UserError: no such chip, or a size that is not of its form; with the list.
  """
  kind, _, size = text.strip().partition(':')
  if not kind:
    raise UserError(f'a plan needs a target; it can be {_listed()}')
  if kind not in CHIPS:
    try:
      one_of('--target', kind, tuple(CHIPS))
    except UserError as error:
      raise UserError(f'{error}; targets are {_listed()}') from None
  axes = CHIPS[kind].axes
  form = 'x'.join([r'[1-9]\d*'] * axes) if axes else r'([1-9]\d*)?'
  if not re.fullmatch(form, size):
    wanted = _EXAMPLES.get(kind, f'{kind}:8')
    raise UserError(
      f'--target={text}: the size of {kind} is '
      f'{f"{axes} numbers of chips" if axes else "a number of chips"}, as in '
      f'{wanted}'
    )
  if not axes:
    return Target(text, kind, int(size or 1))
  return Target(text, kind, math.prod(map(int, size.split('x'))), size)


def _listed() -> str:
  return ', '.join([*_EXAMPLES.values(), 'a100:8', 'h100:8', 'h200:8'])
