"""The one place where a model and a method meet: what both kinds share.

Owns which parameters train and how a method's ports reach a model; a kind of
model has a file beside this, which says where virtual tokens stand. Everything
else asks a TunedModel for logits, or to read inputs that choices are scored and
text is decoded behind, and knows neither the model's class nor the method's
name.
"""

import abc
import dataclasses
import functools
import importlib
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ptjax import tree
from ptjax.config import UserError
from ptjax.methods.base import Attention, Linear, Method, Start
from ptjax.models import int8, ports

Tree = Any
Batch = dict[str, jax.Array]


class Read(abc.ABC):
  """The inputs of a batch, read: what scoring and decoding go on from."""

  @abc.abstractmethod
  def logits(self, ids_BxT: jax.Array, mask_BxT: jax.Array) -> jax.Array:
    """Teacher-forced logits_BxTxV of these answers, float32."""

  @abc.abstractmethod
  def prefill(self, *, max_length: int) -> tuple[jax.Array | None, Tree]:
    """(logits_BxV of the first token, the cache behind it).

    None where the first token needs a step of its own, fed with the model's
    start token.
    """

  def choices(
    self, score: Callable[..., Tree], batch: Batch, *, together: int = 1
  ) -> Tree:
    """What `score` gives for each choice, [B, C] each.

    A choice's mask is by its length: padding may be the id that ends it.

    Args:
      score: as `rank.log_probs`, of logits, ids and their mask.
      together: so many choices of a row are scored at a time.
    """
    ids_BxCxT = batch['choices']
    place_T = jnp.arange(ids_BxCxT.shape[2])
    mask_BxCxT = place_T < batch['choice_lengths'][..., None]

    def one(choice):
      ids_BxT, mask_BxT = choice
      logits_BxTxV = self.logits(ids_BxT, mask_BxT)
      return score(logits_BxTxV, ids_BxT, target_mask_BxT=mask_BxT)

    each = ids_BxCxT.swapaxes(0, 1), mask_BxCxT.swapaxes(0, 1)
    # An axis of one choice would cost, see `side_by_side`.
    size = min(together, ids_BxCxT.shape[1])
    found = jax.lax.map(one, each, batch_size=size if size > 1 else None)
    return jax.tree.map(jnp.transpose, found)


@dataclasses.dataclass(frozen=True)
class TunedModel(abc.ABC):
  """A frozen model and the method that tunes it.

  Hashable, so that it is static under jit. `tuned` and `frozen` are the two
  halves of one tree, what the method creates beside {'model': the network's},
  cut by `tree.split`; gradients are taken with respect to `tuned` alone.

  A batch is what `data.batch.make` gives, and besides

    front   [B] how many of a row's virtual tokens, or places of a prefix,
            count, the last ones: all of its prompt's, or 0, which is the
            untuned model in the same compiled function. Without it all count.
    member  [B] which of the prompts that `tuned` holds along its first axis is
            a row's. Without it `tuned` holds one, without that axis.
  task    [B] which task of a mixture a row is of, for methods that have
            something of their own for each (`each`).
  """

  model: nn.Module
  method: Method

  @property
  @abc.abstractmethod
  def causal(self) -> bool:
    """Whether an answer goes on from its input, with no end between."""

  @property
  @abc.abstractmethod
  def cache_axes(self) -> dict[str, int | None]:
    """The batch axis of each leaf of a cache; None where it has no batch."""

  def keeping(self, remat: str) -> 'TunedModel':
    """The same, whose layers keep one of `config.REMAT` to go back."""
    return dataclasses.replace(self, model=self.model.clone(remat=remat))

  def unrolled(self) -> 'TunedModel':
    """The same, whose layers are compiled one after another, in no loop."""
    return dataclasses.replace(self, model=self.model.clone(scan=False))

  def check_context(self, *, inputs: int, targets: int) -> None:
    """Refuses lengths in pieces that the model has no positions for.

    Raises:
      UserError: with the positions needed and those there are.
    """
    del inputs, targets  # T5's relative positions reach any length

  def init(
    self,
    rng: jax.Array,
    params: Tree,
    *,
    tune: tuple[str, ...] = (),
    **start: Any,
  ) -> tuple[Tree, Tree]:
    """(tuned, frozen) of a run; `start` as in `methods.base.Start`."""
    own = self.method.create(rng, self._start(params, **start))
    joined = {**own, 'model': params}
    tuned, frozen = tree.split(joined, tune or self.method.tune)
    _refuse_int8(tuned)
    # The master copy: at |p| near 50 a bfloat16 prompt loses updates of 0.3.
    # A copy even where the type is right: a step donates it, and the loaded
    # weights are the next task's too.
    return jax.tree.map(lambda x: jnp.array(x, jnp.float32), tuned), frozen

  def own_shapes(self, params: Tree) -> dict[str, tuple[int, ...]]:
    """The shapes of the method's own parameters, by slash-name."""

    def create(rng):
      return self.method.create(rng, self._start(params))

    own = jax.eval_shape(create, jax.random.key(0))
    return {name: leaf.shape for name, leaf in tree.flatten(own).items()}

  def logits(
    self, tuned: Tree, frozen: Tree, batch: Batch, *, rng=None
  ) -> jax.Array:
    """Teacher-forced logits_BxTxV of the targets, float32.

    Dropout only if `rng` is given.
    """
    variables, _ = self.head_reads(tuned, frozen)
    return self.head(variables, self.states(tuned, frozen, batch, rng=rng))

  @abc.abstractmethod
  def states(
    self, tuned: Tree, frozen: Tree, batch: Batch, *, rng=None
  ) -> jax.Array:
    """What `head` reads to say each target, [B, T, D]."""

  def head_reads(self, tuned: Tree, frozen: Tree) -> tuple[Tree, bool]:
    """(what `head` reads, whether none of it trains)."""
    named = tree.flatten(self._without_prompt(tuned, frozen))
    x_1x1xD = jnp.zeros((1, 1, self._config.d_model), self.model.dtype)
    reads = _read(lambda held: self.head(tree.unflatten(held), x_1x1xD), named)
    still = {id(leaf) for leaf in jax.tree.leaves(frozen)}
    read = {name: named[name] for name in reads}
    return tree.unflatten(read), all(id(x) in still for x in read.values())

  @abc.abstractmethod
  def head(self, variables: Tree, x: jax.Array) -> jax.Array:
    """Logits [..., V] in float32 of states [..., D]."""

  @abc.abstractmethod
  def read(self, tuned: Tree, frozen: Tree, batch: Batch) -> Read:
    """The inputs, read once, whatever goes on from them."""

  @abc.abstractmethod
  def decode_step(
    self, tuned: Tree, frozen: Tree, ids_B: jax.Array, cache: Tree
  ) -> tuple[jax.Array, Tree]:
    """One more token for every row: (logits_BxV, cache)."""

  @property
  @abc.abstractmethod
  def attentions(self) -> dict[str, Attention]:
    """The attentions that may have a prefix, by slash-name."""

  @abc.abstractmethod
  def key_values(
    self, params: Tree, rows_PxD: jax.Array
  ) -> dict[str, tuple[jax.Array, jax.Array]]:
    """The keys [N, H, K, P] and values [N, H, P, K] that each attention makes
    of virtual tokens which stand alone."""

  @property
  def _config(self) -> Any:
    return self.model.config

  def _of_tasks(
    self, tuned: Tree, frozen: Tree, batch: Batch
  ) -> tuple[Tree, Batch]:
    """Of a method that has one for each task, the prompts of all tasks, and
    the batch in which each row reads its task's."""
    if 'task' not in batch or not hasattr(self.method, 'each'):
      return tuned, batch
    if 'model' in tuned:
      raise UserError(
        'tune= trains parameters of the model, of which there is none a task; '
        'leave them out of it'
      )
    own = tree.join(tuned, {k: v for k, v in frozen.items() if k != 'model'})
    return self.method.each(own), batch | {'member': batch['task']}

  def _start(self, params: Tree, **known: Any) -> Start:
    """What a method may know of a network, besides what is `known`."""
    linears, biases = _sizes(params)
    return Start(
      params['token_embedder']['embedding'],
      linears=linears,
      biases=biases,
      attentions=self.attentions,
      key_values=functools.partial(jax.jit(self.key_values), params),
      **known,
    )

  def _variables(self, tuned: Tree, frozen: Tree) -> dict[str, Tree]:
    """What the model is applied to: its parameters and the filled ports."""
    own = tree.join(tuned, frozen)
    params = own.pop('model')
    return {'params': params, 'ports': self.method.expand(own)}

  def _without_prompt(self, tuned: Tree, frozen: Tree) -> dict[str, Tree]:
    """The model's variables without the rows of virtual tokens."""
    variables = self._variables(tuned, frozen)
    scope, name = ports.PROMPT
    filled = dict(variables['ports'])
    here = dict(filled.pop(scope, {}))
    here.pop(name, None)
    filled |= {scope: here} if here else {}
    return variables | {'ports': filled}

  def _front(self, batch: Batch) -> jax.Array:
    """How many places in front count, [B]."""
    rows = batch['inputs'].shape[0]
    return batch.get('front', jnp.full(rows, self.method.front, jnp.int32))

  def _around(self, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Ids before an input and behind it.

    Those of virtual tokens go from the embedding's row count upward.
    """
    places = self.method.places
    virtual = itertools.count(self._config.vocab_size)
    before, behind = (
      [next(virtual) if slot is None else slot for slot in side]
      for side in (places.before, places.behind)
    )
    return jnp.asarray(before, dtype), jnp.asarray(behind, dtype)

  def _alone(self, params: Tree, rows_PxD: jax.Array) -> tuple[Tree, jax.Array]:
    """(variables, ids [1, P]) of these rows as virtual tokens."""
    scope, name = ports.PROMPT
    first = self._config.vocab_size
    ids_1xP = jnp.arange(first, first + len(rows_PxD))[None]
    return {'params': params, 'ports': {scope: {name: rows_PxD}}}, ids_1xP


def _refuse_int8(tuned: Tree) -> None:
  """Refuses to train what has no gradient."""
  held = tree.flatten(tuned)
  for name in held:
    scope, _, kind = name.rpartition('/')
    if kind == int8.SCALE or held[name].dtype == jnp.int8:
      raise UserError(
        f'tune: {scope}/kernel is kept in eight bits and cannot train; set '
        'weights=dtype, or train something else'
      )


def _sizes(
  params: Tree,
) -> tuple[dict[str, Linear], dict[str, tuple[int, ...]]]:
  """(linear maps, biases) of a network by slash-name."""
  linears, biases = {}, {}
  for name, leaf in tree.flatten(params).items():
    scope, _, kind = name.rpartition('/')
    stack = leaf.shape[: ports.LAYERS in scope.split('/')]
    if kind == 'kernel':
      inputs, *features = leaf.shape[len(stack) :]
      linears[scope] = Linear(stack, inputs, tuple(features))
    if kind == 'bias':
      biases[scope] = leaf.shape
  return linears, biases


def of_rows(tuned: Tree, batch: Batch) -> Tree:
  """What each row of a mixed batch is tuned by."""
  if 'member' not in batch:
    return tuned
  return jax.tree.map(lambda x: x[batch['member']], tuned)


def with_behind(
  rows: tuple[jax.Array, jax.Array],
  behind_Q: jax.Array,
  *,
  counts_B: jax.Array,
  eos_id: int = -1,
) -> tuple[jax.Array, jax.Array]:
  """(ids, mask) of rows, and behind each of them these ids.

  They follow its last real piece, or go in front of it if it is the EOS that
  ends an input; padding is behind all.

  Args:
    counts_B: whether they count for a row.
  """
  ids_BxL, mask_BxL = rows
  length = ids_BxL.shape[1]
  last_Bx1 = length - 1 - jnp.argmax(mask_BxL[:, ::-1], axis=1)[:, None]
  ends_BxL = (jnp.arange(length) == last_Bx1) & (ids_BxL == eos_id)
  added_BxQ = jnp.broadcast_to(behind_Q, (len(ids_BxL), len(behind_Q)))
  counts_BxQ = jnp.broadcast_to(counts_B[:, None], added_BxQ.shape)
  ids_BxJ = jnp.concatenate([ids_BxL, added_BxQ], axis=1)
  mask_BxJ = jnp.concatenate([mask_BxL, counts_BxQ], axis=1)
  turn_BxJ = jnp.concatenate([2 * ends_BxL, jnp.ones_like(added_BxQ)], axis=1)
  turn_BxJ = jnp.where(mask_BxJ, turn_BxJ, 3)
  order_BxJ = jnp.argsort(turn_BxJ, axis=1, stable=True)
  ids_BxJ = jnp.take_along_axis(ids_BxJ, order_BxJ, axis=1)
  return ids_BxJ, jnp.take_along_axis(mask_BxJ, order_BxJ, axis=1)


def last(count_B: jax.Array, length: int) -> jax.Array:
  """Whether a place is one of the last `count`, [B, length]."""
  return jnp.arange(length) >= length - count_B[:, None]


def causal(model: nn.Module) -> bool:
  """Whether a network is decoder-only: an answer goes on from its input."""
  return not hasattr(model, 'encode')


def make(model: nn.Module, method: Method) -> TunedModel:
  """The tuned model of a network's kind."""
  kind = 'causal' if causal(model) else 'encoder_decoder'
  module = importlib.import_module(f'ptjax.tuned.{kind}')
  return module.Tuned(model, method)


def check_ports(
  tuned_model: TunedModel, tuned: Tree, frozen: Tree, batch: Batch
) -> None:
  """Raises if the model ignores part of what trains.

  Flax drops a variable that no module asks for without a word, so a misspelled
  port would train nothing. What does not reach the logits in the abstract
  program is refused here, before anything is computed.
  """
  named = tree.flatten(tuned)

  def run(held):
    return tuned_model.logits(tree.unflatten(held), frozen, batch)

  reads = _read(run, named)
  unread = [name for name in named if name not in reads]
  if unread:
    raise RuntimeError(f'the model reads no port for {", ".join(unread)}')


def _read(
  function: Callable[[dict[str, Any]], Any], named: dict[str, Any]
) -> list[str]:
  """Which of these arrays function(named) makes any use of; it is not run."""
  program = jax.make_jaxpr(function)(named).jaxpr
  used = {id(v) for eqn in program.eqns for v in eqn.invars}
  # A dictionary's leaves come by the order of its keys.
  return [n for n, v in zip(sorted(named), program.invars) if id(v) in used]
