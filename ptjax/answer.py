"""What is said to a batch: its inputs read, then choices looked at, or decoded.

Owns the order of these, in two halves that may be two programs: what reads
multiplies many rows, what says an answer few. Knows no text and no file.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from ptjax import side_by_side
from ptjax.predict import beam, guess, rank, sample
from ptjax.tuned.base import Batch, Read, Tree, TunedModel

_GREEDY = sample.Greedy()


def make_generate(
  tuned_model: TunedModel,
  *,
  sampler: sample.Sampler | beam.Beams,
  out_shardings: Any = None,
) -> Callable[..., jax.Array]:
  """A jitted (tuned, frozen, batch, rng, *, max_length) -> ids_BxT.

  Rows may have prompts of their own, by `batch['member']`.
  """
  said = _Answer(tuned_model, sampler)

  def generate(tuned, frozen, batch, rng, *, max_length):
    read = tuned_model.read(tuned, frozen, batch)
    own = tuned, frozen, batch
    return said.decoded(*own, read, max_length=max_length, rng=rng)

  return jax.jit(
    generate, static_argnames='max_length', out_shardings=out_shardings
  )


def make_answers(
  tuned_model: TunedModel,
  *,
  sampler: sample.Sampler | beam.Beams = _GREEDY,
  out_shardings: Any = None,
  compiler_options: dict[str, Any] | None = None,
) -> Callable[..., jax.Array]:
  """A (tuned, frozen, batch, *, max_length) -> ids_ExBxT, jitted.

  What a greedy sampler says to a batch with `choices` is looked for among them
  first; see `guess`.

  Args:
    compiler_options: as in jax.jit, of a program of its own that reads the
      inputs of an encoder; then what is returned calls two. None: one.
  """
  said = _Answer(tuned_model, sampler, axis_name=side_by_side.MEMBERS)
  jitted = functools.partial(
    jax.jit, static_argnames='max_length', out_shardings=out_shardings
  )

  def whole(tuned, frozen, batch, *, max_length):
    def member(tuned, frozen, batch):
      read = tuned_model.read(tuned, frozen, batch)
      greedy_BxC = said.greedy(read, batch)
      own = tuned, frozen, batch
      return said.said(*own, read, greedy_BxC, max_length=max_length)

    return side_by_side.over(member)(tuned, frozen, batch)

  if compiler_options is None:
    return jitted(whole)

  def first(tuned, frozen, batch):
    read = tuned_model.read(tuned, frozen, batch)
    return read.made, said.greedy(read, batch)

  def second(both, frozen, batch, *, max_length):
    def member(both, frozen, batch):
      tuned, (made, greedy_BxC) = both
      own = tuned, frozen, batch
      read = tuned_model.read(*own, made=made)
      return said.said(*own, read, greedy_BxC, max_length=max_length)

    return side_by_side.over(member)(both, frozen, batch)

  reads = jax.jit(side_by_side.over(first), compiler_options=compiler_options)
  says = jitted(second)

  def answers(tuned, frozen, batch, *, max_length):
    both = tuned, reads(tuned, frozen, batch)
    return says(both, frozen, batch, max_length=max_length)

  return answers


@dataclasses.dataclass(frozen=True)
class _Answer:
  """How one prompt's, or each row's, answers are found.

  Attributes:
    sampler: what is likeliest, drawn at random, or the best of several beams.
    axis_name: of the members beside this one, see `side_by_side`.
  """

  tuned_model: TunedModel
  sampler: sample.Sampler | beam.Beams
  axis_name: str | None = None

  def greedy(self, read: Read, batch: Batch) -> jax.Array | None:
    """Which choices would be said, [B, C]; None where none are looked at."""
    if 'choices' not in batch or not isinstance(self.sampler, sample.Greedy):
      return None
    together = rank.together(side_by_side.beside())
    return read.choices(rank.greedy, batch, together=together)

  def said(
    self,
    tuned: Tree,
    frozen: Tree,
    batch: Batch,
    read: Read,
    greedy_BxC: jax.Array | None,
    *,
    max_length: int,
  ) -> jax.Array:
    """ids_BxT, those of a choice where each row says one."""
    decode = functools.partial(
      self.decoded, *(tuned, frozen, batch, read), max_length=max_length
    )
    if greedy_BxC is None:
      return decode()
    guessed = guess.said(greedy_BxC, batch, max_length=max_length, **self._ends)
    return guess.or_decode(guessed, decode, axis_name=self.axis_name)

  def decoded(
    self,
    tuned: Tree,
    frozen: Tree,
    batch: Batch,
    read: Read,
    *,
    max_length: int,
    rng: jax.Array | None = None,
  ) -> jax.Array:
    """ids_BxT, a token after the other."""

    def step_fn(ids_B, cache):
      return self.tuned_model.decode_step(tuned, frozen, ids_B, cache)

    first_BxV, cache = read.prefill(max_length=max_length)
    config = self.tuned_model.model.config
    found = {
      'batch_size': batch['inputs'].shape[0],
      'start_id': getattr(config, 'decoder_start_id', 0),
      'max_length': max_length,
      'first_BxV': first_BxV,
      **self._ends,
    }
    if isinstance(self.sampler, beam.Beams):
      axes = self.tuned_model.cache_axes
      how = {'beams': self.sampler, 'batch_axes': axes}
      return beam.generate(step_fn, cache, **how, **found)
    how = {'sampler': self.sampler, 'rng': rng, 'axis_name': self.axis_name}
    return sample.generate(step_fn, cache, **found, **how)

  @property
  def _ends(self) -> dict[str, int]:
    config = self.tuned_model.model.config
    return {'eos_id': config.eos_id, 'pad_id': config.pad_id}
