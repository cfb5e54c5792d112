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
from ptjax.tuned.base import Batch, Tree, TunedModel

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
    begun = said.read(tuned, frozen, batch)
    return said.say(
      *(tuned, frozen, batch, begun), max_length=max_length, rng=rng
    )

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
  """A jitted (tuned, frozen, batch, *, max_length) -> ids_ExBxT.

  What a greedy sampler says to a batch with `choices` is looked for among them
  first; see `guess`.

  Args:
    compiler_options: of a program of its own that reads the inputs, in which
      products are of many rows; None makes one program of all.
  """
  said = _Answer(tuned_model, sampler, guesses=True)
  jitted = functools.partial(
    jax.jit, static_argnames='max_length', out_shardings=out_shardings
  )

  def say(own, frozen, batch, *, max_length):
    """Of all members, of each what tunes it and what it has read."""

    def member(own, frozen, batch):
      tuned, begun = own
      return said.say(tuned, frozen, batch, begun, max_length=max_length)

    return side_by_side.over(member)(own, frozen, batch)

  def whole(tuned, frozen, batch, *, max_length):
    def member(tuned, frozen, batch):
      begun = said.read(tuned, frozen, batch)
      return said.say(tuned, frozen, batch, begun, max_length=max_length)

    return side_by_side.over(member)(tuned, frozen, batch)

  if compiler_options is None:
    return jitted(whole)
  read = jax.jit(
    side_by_side.over(said.read), compiler_options=compiler_options
  )
  say = jitted(say)

  def answers(tuned, frozen, batch, *, max_length):
    begun = read(tuned, frozen, batch)
    return say((tuned, begun), frozen, batch, max_length=max_length)

  return answers


@dataclasses.dataclass(frozen=True)
class _Answer:
  """How one prompt's, or each row's, answers are found.

  Attributes:
    sampler: what is likeliest, drawn at random, or the best of several beams.
    guesses: whether the choices of a batch that has them are tried first, see
      `guess`. Then all is inside a function of `side_by_side`.
  """

  tuned_model: TunedModel
  sampler: sample.Sampler | beam.Beams
  guesses: bool = False

  def read(self, tuned: Tree, frozen: Tree, batch: Batch) -> Tree:
    """(arrays of the read inputs, greedy_BxC of the choices or None)."""
    read = self.tuned_model.read(tuned, frozen, batch)
    if not self._guesses(batch):
      return read.made, None
    together = rank.together(side_by_side.beside())
    return read.made, read.choices(rank.greedy, batch, together=together)

  def say(
    self,
    tuned: Tree,
    frozen: Tree,
    batch: Batch,
    begun: Tree,
    *,
    max_length: int,
    rng: jax.Array | None = None,
  ) -> jax.Array:
    """ids_BxT of the answers; `begun` is what `read` gave."""
    made, greedy_BxC = begun
    config = self.tuned_model.model.config
    ends = {'eos_id': config.eos_id, 'pad_id': config.pad_id}
    axis_name = side_by_side.MEMBERS if self.guesses else None

    def step_fn(ids_B, cache):
      return self.tuned_model.decode_step(tuned, frozen, ids_B, cache)

    def decode():
      read = self.tuned_model.read(tuned, frozen, batch, made=made)
      first_BxV, cache = read.prefill(max_length=max_length)
      found = {
        'batch_size': batch['inputs'].shape[0],
        'start_id': getattr(config, 'decoder_start_id', 0),
        'max_length': max_length,
        'first_BxV': first_BxV,
        **ends,
      }
      if isinstance(self.sampler, beam.Beams):
        axes = self.tuned_model.cache_axes
        how = {'beams': self.sampler, 'batch_axes': axes}
        return beam.generate(step_fn, cache, **how, **found)
      how = {'sampler': self.sampler, 'rng': rng, 'axis_name': axis_name}
      return sample.generate(step_fn, cache, **found, **how)

    if not self._guesses(batch):
      return decode()
    guessed = guess.said(greedy_BxC, batch, max_length=max_length, **ends)
    return guess.or_decode(guessed, decode, axis_name=axis_name)

  def _guesses(self, batch: Batch) -> bool:
    greedy = isinstance(self.sampler, sample.Greedy)
    return self.guesses and greedy and 'choices' in batch
