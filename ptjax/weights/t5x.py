"""T5X checkpoints, here or in a bucket, seen as if by Hugging Face's names.

Owns the msgpack index, the zarr arrays beside it and T5X's names and
orientation of a T5. Such a folder says no architecture: sizes are read from
the shapes, and what shapes do not say is left to config.json.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from ptjax import bucket
from ptjax.config import UserError
from ptjax.weights import table

_INDEX = 'checkpoint'

_ATTENTIONS = (
  ('encoder', 'attention', '0.SelfAttention'),
  ('decoder', 'self_attention', '0.SelfAttention'),
  ('decoder', 'encoder_decoder_attention', '1.EncDecAttention'),
)

# T5X name (full match) to canonical name; all but vectors and the embedding
# are transposes.
_NAMES = (
  (r'token_embedder/embedding', 'shared.weight'),
  (r'decoder/logits_dense/kernel', 'lm_head.weight'),
  (r'(encoder|decoder)/\1_norm/scale', r'\1.final_layer_norm.weight'),
  (
    r'(encoder|decoder)/relpos_bias/rel_embedding',
    r'\1.block.0.layer.0.SelfAttention.relative_attention_bias.weight',
  ),
  (
    r'encoder/layers_(\d+)/mlp/(wi|wi_0|wi_1|wo)/kernel',
    r'encoder.block.\1.layer.1.DenseReluDense.\2.weight',
  ),
  (
    r'decoder/layers_(\d+)/mlp/(wi|wi_0|wi_1|wo)/kernel',
    r'decoder.block.\1.layer.2.DenseReluDense.\2.weight',
  ),
  (
    r'encoder/layers_(\d+)/pre_attention_layer_norm/scale',
    r'encoder.block.\1.layer.0.layer_norm.weight',
  ),
  (
    r'encoder/layers_(\d+)/pre_mlp_layer_norm/scale',
    r'encoder.block.\1.layer.1.layer_norm.weight',
  ),
  (
    r'decoder/layers_(\d+)/pre_self_attention_layer_norm/scale',
    r'decoder.block.\1.layer.0.layer_norm.weight',
  ),
  (
    r'decoder/layers_(\d+)/pre_cross_attention_layer_norm/scale',
    r'decoder.block.\1.layer.1.layer_norm.weight',
  ),
  (
    r'decoder/layers_(\d+)/pre_mlp_layer_norm/scale',
    r'decoder.block.\1.layer.2.layer_norm.weight',
  ),
  *(
    (
      rf'{side}/layers_(\d+)/{own}/{name}/kernel',
      rf'{side}.block.\1.layer.{theirs}.{name[0]}.weight',
    )
    for side, own, theirs in _ATTENTIONS
    for name in ('query', 'key', 'value', 'out')
  ),
)


def is_checkpoint(folder: bucket.Path) -> bool:
  """Whether a folder is read as a T5X checkpoint."""
  return (folder / _INDEX).is_file()


class Checkpoint:
  """A T5X checkpoint as a source, under canonical names."""

  def __init__(self, folder: bucket.Path):
    self.folder, self.far = folder, isinstance(folder, bucket.Bucket)
    self._leaves: dict[str, Any] = {}
    self.shapes: dict[str, tuple[int, ...]] = {}
    names: dict[str, str] = {}
    # All are on their way before the first is waited for.
    leaves = [
      (name, leaf if _held(leaf) else _opening(folder, name))
      for name, leaf in _flatten(_target(folder))
    ]
    for name, leaf in leaves:
      if not _held(leaf):
        leaf = _opened(folder, name, leaf)
      canonical = _canonical(name)
      if canonical in names:
        raise UserError(
          f'{folder}: the arrays {names[canonical]} and {name} are both '
          f'{canonical}.'
        )
      names[canonical] = name
      shape = tuple(leaf.shape)
      self._leaves[canonical] = leaf
      turned = _turned(canonical, shape)
      self.shapes[canonical] = shape[::-1] if turned else shape

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    leaf = self._leaves[name]
    turned = _turned(name, tuple(leaf.shape))
    try:
      part = _value(leaf[:, start:stop] if turned else leaf[start:stop])
    except ValueError as error:  # TensorStore's for what is lost or damaged
      raise UserError(
        f'{self.folder}: {name} cannot be read ({_first(error)}); fetch the '
        'checkpoint again.'
      ) from None
    if part.dtype not in table.FLOATS.values():
      raise table.wrong_type(name, part.dtype, where=self.folder)
    return part.T if turned else part


def _canonical(name: str) -> str:
  """The canonical name; its own where it has none, and the check says so."""
  for pattern, replacement in _NAMES:
    if match := re.fullmatch(pattern, name):
      return match.expand(replacement)
  return name


def _turned(canonical: str, shape: tuple[int, ...]) -> bool:
  return len(shape) == 2 and canonical != 'shared.weight'


def _held(leaf: Any) -> bool:
  """Whether the index itself has the values."""
  return isinstance(leaf, np.ndarray)


def _value(leaf: Any) -> np.ndarray:
  """A numpy slice as it is, a TensorStore one read now."""
  return leaf if _held(leaf) else leaf.read().result()


def _target(folder: bucket.Path) -> dict[str, Any]:
  from flax import serialization

  index = (folder / _INDEX).read_bytes()
  try:
    content = serialization.msgpack_restore(index)
    optimizer = content['optimizer']
    target = optimizer['target']
  except Exception as error:
    raise UserError(
      f'{folder}/{_INDEX}: not the index of a T5X checkpoint '
      f'({type(error).__name__}: {error}).'
    ) from None
  return target


def _flatten(tree: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Leaves and their slash-names; a TensorStore spec is a leaf."""
  if not isinstance(tree, dict) or 'driver' in tree:
    yield prefix, tree
    return
  for key, value in tree.items():
    yield from _flatten(value, f'{prefix}/{key}' if prefix else str(key))


def _opening(folder: bucket.Path, name: str) -> Any:
  """The array beside the index: where it was first written does not count."""
  import tensorstore

  spec = {
    'driver': 'zarr',
    'kvstore': bucket.store(folder / _beside(name)),
    # To zarr a chunk that is not there is zeros; to a model it is a loss.
    'fill_missing_data_reads': False,
  }
  return tensorstore.open(spec, open=True, read=True, context=bucket.context())


def _opened(folder: bucket.Path, name: str, opening: Any) -> Any:
  beside = _beside(name)
  try:
    return opening.result()
  except ValueError as error:
    if str(error).startswith('NOT_FOUND'):
      raise UserError(
        f'{folder}: the checkpoint names {beside}, not there.'
      ) from None
    raise UserError(
      f'{folder}/{beside}: not a zarr array ({_first(error)}).'
    ) from None


def _beside(name: str) -> str:
  return f'target.{name.replace("/", ".")}'


def _first(error: Exception) -> str:
  return str(error).splitlines()[0]


def sizes(source: Checkpoint, *, where: str) -> dict[str, Any]:
  """What the shapes say, in the words of a config.json."""
  shapes = source.shapes
  bias = 'encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
  query = 'encoder.block.0.layer.0.SelfAttention.q.weight'
  out = 'encoder.block.0.layer.1.DenseReluDense.wo.weight'
  axes = {
    'shared.weight': '[pieces, width]',
    bias: '[buckets, heads]',
    query: '[heads times size, width]',
    out: '[width, mlp]',
  }
  missing = [name for name in axes if name not in shapes]
  if missing:
    raise UserError(
      f'{where}: a T5X checkpoint, but not of a T5 that can be read here: no '
      f'{", ".join(missing)} (scanned layers are not read).'
    )
  for name, wanted in axes.items():
    if len(shapes[name]) != 2 or 0 in shapes[name]:
      raise UserError(
        f'{where}: {name} is {list(shapes[name])}, expected {wanted}.'
      )
  buckets, heads = shapes[bias]
  tied = 'lm_head.weight' not in shapes
  gated = out.replace('wo', 'wi_0') in shapes
  return {
    'vocab_size': shapes['shared.weight'][0],
    'd_model': shapes['shared.weight'][1],
    'd_kv': shapes[query][0] // heads,
    'd_ff': shapes[out][1],
    'num_heads': heads,
    'num_layers': _count(shapes, 'encoder'),
    'num_decoder_layers': _count(shapes, 'decoder'),
    'relative_attention_num_buckets': buckets,
    # T5's own pair; to other buckets belongs a distance that no shape says.
    'relative_attention_max_distance': 128 if buckets == 32 else None,
    'feed_forward_proj': 'gated-gelu' if gated else 'relu',
    'tie_word_embeddings': tied,
  }


def _count(shapes: dict[str, tuple[int, ...]], side: str) -> int:
  pattern = re.compile(rf'{side}\.block\.(\d+)\.')
  found = (pattern.match(name) for name in shapes)
  return 1 + max((int(match[1]) for match in found if match), default=-1)
