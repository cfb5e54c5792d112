"""What devices send one another in a compiled program, read from its text.

Owns XLA's text of collectives and of loops, whose bodies it counts as often as
they run. Knows no compiler and no model.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence

KINDS = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
)


@dataclasses.dataclass(frozen=True)
class Sent:
  """Collectives of one kind in a step.

  Attributes:
    places: in the program's text.
    times: that they run.
    bytes: of what a device has afterwards, over all times.
  """

  places: int = 0
  times: int = 0
  bytes: int = 0

  def __add__(self, other: 'Sent') -> 'Sent':
    return Sent(
      self.places + other.places,
      self.times + other.times,
      self.bytes + other.bytes,
    )


@dataclasses.dataclass(frozen=True)
class Collective:
  """One place in the text where devices send."""

  kind: str
  shape: str  # of the result, such as bf16[4096,1280]
  source: str  # the function of ours that it comes from
  times: int
  begins: bool = False  # the text has another line for its end

  @property
  def bytes(self) -> int:
    sizes = [_bytes(array) for array in _ARRAY.findall(self.shape)]
    # What only begins names its operand beside its result.
    return max(sizes) if self.begins else sum(sizes)


def summed(found: Sequence[Collective]) -> dict[str, Sent]:
  """By kind, in the order of KINDS; kinds that do not occur are left out."""
  out: dict[str, Sent] = {}
  for each in found:
    new = Sent(1, each.times, each.times * each.bytes)
    out[each.kind] = out.get(each.kind, Sent()) + new
  order = [kind for kind in KINDS if kind in out]
  return {kind: out[kind] for kind in [*order, *sorted(out.keys() - order)]}


def collectives(text: str, *, loops: int = 1) -> list[Collective]:
  """Every place where devices send.

  Args:
    text: of a compiled module.
    loops: how often a loop runs that does not say it.
  """
  bodies, entry = _computations(text)
  times: collections.Counter[str] = collections.Counter()

  def visit(name: str, often: int) -> None:
    times[name] += often
    for line in bodies[name]:
      loop, more = _WHILE.search(line), often
      if loop:
        more *= _trips(line, bodies.get(loop[1], ())) or loops
      for called in _calls(line):
        if called in bodies:
          visit(called, more)

  visit(entry, 1)
  out: dict[str, Collective] = {}
  for name, lines in bodies.items():
    for line in lines if times[name] else ():
      if (found := _collective(line, times[name])) is None:
        continue
      # One that runs beside products is said in each part of it.
      channel = _CHANNEL.search(line)
      key = channel[1] if channel else f'line {len(out)}'
      if key not in out or out[key].times < found.times:
        out[key] = found
  return list(out.values())


_OP = re.compile(r'= (.*?) ([a-z][a-z-]*?)(-start)?\(')
_CHANNEL = re.compile(r'channel_id=(\d+)')
_SOURCE = re.compile(r'op_name="([^"]*)"')


def _collective(line: str, times: int) -> Collective | None:
  found, source = _OP.search(line), _SOURCE.search(line)
  if found is None or found[2].endswith('-done'):
    return None
  if found[2] not in KINDS and not _CHANNEL.search(line):
    return None
  return Collective(
    kind=found[2],
    shape=found[1],
    source=source[1] if source else '',
    times=times,
    begins=bool(found[3]),
  )


# A loop, what it says that it runs, and `compare(i, constant), direction=LT`.
_WHILE = re.compile(r' while\(.*condition=%?([\w.-]+)')
_TRIPS = re.compile(r'known_trip_count\W+n\W+(\d+)')
_NUMBER = re.compile(r'%?([\w.-]+) = [su]32\[\]\S* constant\((\d+)\)')
_BELOW = re.compile(
  r'compare\([^,]*?%?[\w.-]+, [^,]*?%?([\w.-]+)\).*direction=LT'
)


def _trips(line: str, condition: Sequence[str]) -> int:
  """How often a loop runs at most: what it says, or what it counts up to."""
  if said := _TRIPS.search(line):
    return int(said[1])
  text = '\n'.join(condition)
  numbers = dict(_NUMBER.findall(text))
  limits = [numbers[n] for n in _BELOW.findall(text) if n in numbers]
  return int(limits[0]) if limits else 0


_HEAD = re.compile(r'^(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$')


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  """Lines of each computation by its name, and the name of the entry."""
  bodies: dict[str, list[str]] = {}
  entry, lines = '', []
  for line in text.splitlines():
    if head := _HEAD.match(line):
      lines = bodies[head[2]] = []
      entry = head[2] if head[1] else entry
    else:
      lines.append(line)
  return bodies, entry


_CALLED = re.compile(
  r'(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')


def _calls(line: str) -> list[str]:
  called = _CALLED.findall(line)
  for names in _BRANCHES.findall(line):
    called += [name.strip().lstrip('%') for name in names.split(',')]
  return called


_ARRAY = re.compile(r'([a-z]+\d*)\[([\d,]*)\]')


def _bytes(array: tuple[str, str]) -> int:
  kind, sizes = array
  width = 1 if kind == 'pred' else int(re.sub(r'\D', '', kind) or 8) // 8
  return max(1, width) * math.prod(int(n) for n in sizes.split(',') if n)
