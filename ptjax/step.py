"""One update and one evaluation, as pure functions.

Owns what a checkpoint holds (TrainState) and when an update must not happen. A
population is one more axis, E, in front of everything that trains; the frozen
weights have none. Knows no text, file or clock.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from ptjax import cross_entropy, side_by_side
from ptjax.predict import rank
from ptjax.tuned.base import Batch, Tree, TunedModel

# The metrics of a step that must be finite, or the step is not made.
FINITE = ('loss', 'grad_norm', 'update_norm')


class TrainState(flax.struct.PyTreeNode):
  """All that changes in a run, and so all that a checkpoint holds.

  Of one member; that of a population is a state whose every leaf has the
  member axis in front.

  Attributes:
    step: updates done, int32.
    tuned: what trains, float32.
    opt_state: the optimizer's, of `tuned` alone.
    rng: key of dropout; the step is folded in, so a resumed run repeats.
    ok: False once a loss, gradient or update was not finite. The state stays
      what it was before that update, the last good one.
    best: `tuned` at its best score on dev.
    best_score, best_step: that score (×100) and the step it was reached at.
    stale: evaluations since then.
  """

  step: jax.Array
  tuned: Tree
  opt_state: Tree
  rng: jax.Array
  ok: jax.Array
  best: Tree
  best_score: jax.Array
  best_step: jax.Array
  stale: jax.Array


@dataclasses.dataclass(frozen=True)
class StepOptions:
  """Static choices of a step; see `config.train`."""

  accumulate: int = 1
  dropout: bool = False
  z_loss: float = 0.0
  patience: int = 0
  full_text: bool = False  # the inputs are to be said too


def init_state(
  tuned: Tree, tx: optax.GradientTransformation, *, rng: jax.Array
) -> TrainState:
  """The state before the first update."""
  return TrainState(
    step=jnp.int32(0),
    tuned=tuned,
    opt_state=tx.init(tuned),
    rng=jax.random.key_data(rng),
    ok=jnp.bool_(True),
    best=jax.tree.map(jnp.copy, tuned),
    best_score=jnp.float32(-jnp.inf),
    best_step=jnp.int32(-1),
    stale=jnp.int32(0),
  )


def make_train_step(
  tuned_model: TunedModel,
  make_tx: Callable[[jax.Array], optax.GradientTransformation],
  *,
  rates: Sequence[float],
  options: StepOptions = StepOptions(),
  remat: Callable[[TrainState, Batch], str] | None = None,
  out_shardings: Any = None,
  compiler_options: dict[str, Any] | None = None,
) -> Callable[[TrainState, Tree, Batch], tuple[TrainState, dict]]:
  """A jitted (state, frozen, batch) -> (state, metrics); donates the state.

  Each member is stepped as if it were alone: nothing is summed over them. How
  many go side by side says `at_once`.

  Args:
    make_tx: a learning rate -> the optimizer.
    rates: the learning rate of each member.
    remat: what layers keep, of a population's shapes; None = as the model's do.
    out_shardings: where the results lie, as in jax.jit.
    compiler_options: as in jax.jit, of products of many rows.
  """

  def population(state: TrainState, frozen: Tree, batch: Batch):
    def member(own):
      state, batch, rate = own
      return update(state, frozen, batch, tx=make_tx(rate))

    kept = tuned_model
    if remat is not None:
      kept = tuned_model.keeping(remat(state, batch))
    update = _update(kept, options)
    own = state, batch, jnp.asarray(rates, jnp.float32)
    count = len(rates)
    pieces = batch['inputs'].size // count
    return side_by_side.each(member, own, count=count, pieces=pieces)

  return jax.jit(
    population,
    donate_argnums=0,
    out_shardings=out_shardings,
    compiler_options=compiler_options,
  )


def _update(tuned_model: TunedModel, options: StepOptions) -> Callable:
  """(state, frozen, batch, *, tx) -> (state, metrics) of one member."""

  def summed(tuned, frozen, batch, rng):
    variables, still = tuned_model.head_reads(tuned, frozen)
    x_BxTxD = tuned_model.states(tuned, frozen, batch, rng=rng)
    said = {'mask_BxT': batch['target_mask'], 'z_loss': options.z_loss}
    if still:
      return cross_entropy.of_states(
        tuned_model.head, variables, x_BxTxD, batch['targets'], **said
      )
    logits_BxTxV = tuned_model.head(variables, x_BxTxD)
    return cross_entropy.of_logits(logits_BxTxV, batch['targets'], **said)

  grad = jax.value_and_grad(summed)

  def total(tuned, frozen, batch, rng):
    """Loss and gradient, summed over micro-batches: exact for any number."""
    k = options.accumulate
    if k == 1:
      return grad(tuned, frozen, batch, rng)
    # Strided, so that filler rows at a batch's end spread over all of them.
    split = jax.tree.map(
      lambda x: x.reshape(x.shape[0] // k, k, *x.shape[1:]).swapaxes(0, 1),
      batch,
    )

    def add(carry, part):
      index, micro = part
      key = None if rng is None else jax.random.fold_in(rng, index)
      new = grad(tuned, frozen, micro, key)
      return jax.tree.map(jnp.add, carry, new), None

    zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, tuned))
    return jax.lax.scan(add, zero, (jnp.arange(k), split))[0]

  def step(state: TrainState, frozen: Tree, batch: Batch, *, tx):
    if options.full_text:
      batch = tuned_model.full_text(batch)
    rng = None
    if options.dropout:
      key = jax.random.wrap_key_data(state.rng)
      rng = jax.random.fold_in(key, state.step)
    loss, grads = total(state.tuned, frozen, batch, rng)
    tokens = jnp.maximum(jnp.sum(batch['target_mask']), 1)
    loss, grads = jax.tree.map(lambda x: x / tokens, (loss, grads))
    grad_norm = optax.tree.norm(grads)
    updates, opt_state = tx.update(grads, state.opt_state, state.tuned)
    metrics = {
      'loss': loss,
      'grad_norm': grad_norm,
      'update_norm': optax.tree.norm(updates),
      'tuned_norm': optax.tree.norm(state.tuned),
    }
    ok = state.ok & jnp.isfinite(jnp.stack([metrics[k] for k in FINITE])).all()
    new = state.replace(
      step=state.step + 1,
      tuned=optax.apply_updates(state.tuned, updates),
      opt_state=opt_state,
    )
    moves = ok & ~stopped(state, options.patience)
    kept = jax.tree.map(lambda n, o: jnp.where(moves, n, o), new, state)
    return kept.replace(ok=ok), metrics

  return step


def stopped(state: TrainState, patience: int) -> jax.Array:
  """Whether so many evaluations have gone by without a better one."""
  return (state.stale >= patience) & (patience > 0)


@jax.vmap
def note_score(state: TrainState, score: jax.Array) -> TrainState:
  """The states of a population after an evaluation on dev, by scores [E].

  Each keeps its best so far; a tie keeps the earlier one.
  """
  better = score > state.best_score
  return state.replace(
    best=jax.tree.map(
      lambda new, old: jnp.where(better, new, old), state.tuned, state.best
    ),
    best_score=jnp.where(better, score, state.best_score),
    best_step=jnp.where(better, state.step, state.best_step),
    stale=jnp.where(better, 0, state.stale + 1),
  )


def make_log_probs(
  tuned_model: TunedModel, *, out_shardings: Any = None
) -> Callable[[Tree, Tree, Batch], tuple[jax.Array, jax.Array]]:
  """A jitted (tuned, frozen, batch) -> (nats_B, tokens_B) of the targets.

  Rows may have prompts of their own, by `batch['member']`.
  """

  def log_probs(tuned, frozen, batch):
    return rank.log_probs(
      tuned_model.logits(tuned, frozen, batch),
      batch['targets'],
      target_mask_BxT=batch['target_mask'],
    )

  return jax.jit(log_probs, out_shardings=out_shardings)


def make_choices(
  tuned_model: TunedModel, **compiled: Any
) -> Callable[..., jax.Array]:
  """A jitted (tuned, frozen, batch) -> (nats_ExBxC, pieces_ExBxC).

  Args:
    compiled: out_shardings and compiler_options, as of `make_train_step`.
  """

  def choices(tuned, frozen, batch):
    read = tuned_model.read(tuned, frozen, batch)
    together = rank.together(side_by_side.beside())
    return read.choices(rank.log_probs, batch, together=together)

  return jax.jit(side_by_side.over(choices), **compiled)
