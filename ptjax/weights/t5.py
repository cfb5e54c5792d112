"""The T5 family as transformers names it: tensors, config, what to ignore.

Owns the names and orientation of T5's tensors in Hugging Face files and the
meaning of its config.json, both ways. Knows no file format.
"""

from collections.abc import Mapping
from typing import Any

from ptjax.config import UserError
from ptjax.models import t5
from ptjax.weights import settings, table

NETWORK = t5.T5
EMBEDDING = 'shared.weight'
HEAD = 'lm_head.weight'

# Other names of the embedding. transformers ties the three, so a file carries
# one of them, or copies.
EMBEDDING_COPIES = (
  'encoder.embed_tokens.weight',
  'decoder.embed_tokens.weight',
)

# Tensors that real files carry and nobody needs: the published T5s have a
# relative bias of the attention to the input that was never used.
SUPERFLUOUS = (
  'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight',
)

# Config attributes that say nothing of the network.
_IGNORED = settings.IGNORED | {
  'initializer_factor',
  'n_positions',
  'prefix',
}

# Attributes that must be absent or as here: what else they could say, this
# network does not do.
_DEFAULTS = settings.DEFAULTS | {
  'bos_token_id': (None,),
  'classifier_dropout': (0, 0.0),
  'is_encoder_decoder': (True,),
}

_ACTIVATIONS = {
  'relu': ('relu', False),
  'gelu': ('gelu', False),
  'gelu_new': ('gelu_new', False),
  'silu': ('silu', False),
  # transformers reads 'gated-gelu' as the tanh form, which T5 1.1 uses.
  'gated-gelu': ('gelu_new', True),
  'gated-gelu_new': ('gelu_new', True),
  'gated-relu': ('relu', True),
  'gated-silu': ('silu', True),
}

_SIZES = ('vocab_size', 'd_model', 'd_kv', 'd_ff', 'num_layers', 'num_heads')


def config(values: Mapping[str, Any], *, tied: bool, where: str) -> t5.T5Config:
  """The network a config.json describes; `tied` is what the tensors say."""
  values = dict(values)
  sizes = settings.sizes(values, _SIZES, kind='T5', where=where)
  if values.get('num_decoder_layers') is None:
    values['num_decoder_layers'] = sizes['num_layers']
  activation, gated = _activation(values, where)
  said = settings.Said(values, where)
  # Fewer buckets, or a distance that the exact half of them covers, and the
  # logarithm that spreads the other half is of nothing.
  buckets = said.whole('relative_attention_num_buckets', 32, least=4)
  if values.get('relative_attention_max_distance', 0) is None:
    raise UserError(
      f'{where}: nothing says the distance that goes with {buckets} buckets; '
      'put it in config.json in this folder, such as '
      '{"relative_attention_max_distance": 128}.'
    )
  distance = said.whole(
    'relative_attention_max_distance', 128, least=buckets // 2 + 1
  )
  last = sizes['vocab_size'] - 1
  result = t5.T5Config(
    **sizes,
    num_decoder_layers=said.whole('num_decoder_layers', 1, least=1),
    activation=activation,
    gated=gated,
    tied=tied,
    scale_logits=_scaled(said, tied),
    relative_attention_num_buckets=buckets,
    relative_attention_max_distance=distance,
    layer_norm_epsilon=said.number('layer_norm_epsilon', 1e-6),
    dropout_rate=said.number('dropout_rate', 0.1),
    pad_id=said.id('pad_token_id', 0, last=last),
    eos_id=said.id('eos_token_id', 1, last=last),
    decoder_start_id=said.id('decoder_start_token_id', 0, last=last),
  )
  settings.refuse_unknown(
    values, ignored=_IGNORED, defaults=_DEFAULTS, kind='T5', where=where
  )
  return result


def _activation(values: dict[str, Any], where: str) -> tuple[str, bool]:
  name = values.pop('feed_forward_proj', 'relu')
  if not isinstance(name, str) or name not in _ACTIVATIONS:
    raise UserError(
      f'{where}: feed_forward_proj is {name!r}; known are '
      f'{", ".join(_ACTIVATIONS)}.'
    )
  # transformers derives these two, and writes them down.
  activation, gated = _ACTIVATIONS[name]
  said = values.pop('dense_act_fn', None), values.pop('is_gated_act', None)
  for value, derived in zip(said, (activation, gated)):
    if value is not None and value != derived:
      raise UserError(
        f'{where}: feed_forward_proj is {name!r}, but dense_act_fn or '
        f'is_gated_act says {value!r} instead of {derived!r}.'
      )
  return activation, gated


def _scaled(said: settings.Said, tied: bool) -> bool:
  """Whether the head's input is scaled, as T5 1.0 does.

  transformers 4 scaled where tie_word_embeddings was not false. transformers 5
  ties and writes true for every T5, so there only its own flag counts, and an
  untied head next to a `true` is one of those that never was scaled.
  """
  flag = said.flag('tie_word_embeddings')
  scaled = said.flag('scale_decoder_outputs')
  return tied and flag is not False if scaled is None else scaled


def to_json(config: t5.T5Config, *, dtype: str) -> dict[str, Any]:
  """A config.json that transformers 4 and 5 read as this network."""
  projections = {v: k for k, v in reversed(_ACTIVATIONS.items())}
  return {
    'architectures': ['T5ForConditionalGeneration'],
    'model_type': 't5',
    'vocab_size': config.vocab_size,
    'd_model': config.d_model,
    'd_kv': config.d_kv,
    'd_ff': config.d_ff,
    'num_layers': config.num_layers,
    'num_decoder_layers': config.num_decoder_layers,
    'num_heads': config.num_heads,
    'feed_forward_proj': projections[config.activation, config.gated],
    'relative_attention_num_buckets': config.relative_attention_num_buckets,
    'relative_attention_max_distance': config.relative_attention_max_distance,
    'layer_norm_epsilon': config.layer_norm_epsilon,
    'dropout_rate': config.dropout_rate,
    'tie_word_embeddings': config.scale_logits,
    'scale_decoder_outputs': config.scale_logits,
    'pad_token_id': config.pad_id,
    'eos_token_id': config.eos_id,
    'decoder_start_token_id': config.decoder_start_id,
    'is_encoder_decoder': True,
    'torch_dtype': dtype,
  }


def tensors(config: t5.T5Config) -> list[table.Tensor]:
  """Every tensor of the network."""
  V, D = config.vocab_size, config.d_model
  rows = [table.Tensor('token_embedder/embedding', EMBEDDING, (V, D))]
  rows += _stack('encoder', config)
  rows += _stack('decoder', config)
  if not config.tied:
    rows += [table.Tensor('head/kernel', HEAD, (V, D), transpose=True)]
  return rows


def _stack(side: str, config: t5.T5Config) -> list[table.Tensor]:
  decoder = side == 'decoder'
  layers = config.num_decoder_layers if decoder else config.num_layers
  block = f'{side}.block.{{}}.layer'
  buckets = (config.relative_attention_num_buckets, config.num_heads)
  bias = f'{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
  rows = [
    table.Tensor(f'{side}/relative_bias/embedding', bias, buckets),
    table.Tensor(
      f'{side}/norm/scale', f'{side}.final_layer_norm.weight', (config.d_model,)
    ),
  ]
  if decoder:
    sublayers = (('self_attention', 'SelfAttention'),)
    sublayers += (('cross_attention', 'EncDecAttention'),)
  else:
    sublayers = (('attention', 'SelfAttention'),)
  for i, (own, theirs) in enumerate(sublayers):
    own = f'{side}/layers/{own}'
    rows += _attention(own, f'{block}.{i}.{theirs}', config, layers)
  rows += _mlp(side, f'{block}.{len(sublayers)}', config, layers)
  norms = [f'pre_{own}_norm' for own, _ in sublayers] + ['pre_mlp_norm']
  for i, norm in enumerate(norms):
    path, name = f'{side}/layers/{norm}/scale', f'{block}.{i}.layer_norm.weight'
    rows += [table.Tensor(path, name, (config.d_model,), layers)]
  return rows


def _attention(
  own: str, theirs: str, config: t5.T5Config, layers: int
) -> list[table.Tensor]:
  D, HK = config.d_model, config.num_heads * config.d_kv
  rows = []
  for name, short in (('query', 'q'), ('key', 'k'), ('value', 'v')):
    path = f'{own}/{name}/kernel'
    shape = (HK, D)
    rows += [_kernel(path, f'{theirs}.{short}.weight', shape, layers)]
  rows += [_kernel(f'{own}/out/kernel', f'{theirs}.o.weight', (D, HK), layers)]
  return rows


def _mlp(
  side: str, block: str, config: t5.T5Config, layers: int
) -> list[table.Tensor]:
  D, F = config.d_model, config.d_ff
  shapes = {'wi_0': (F, D), 'wi_1': (F, D)} if config.gated else {'wi': (F, D)}
  shapes['wo'] = (D, F)
  return [
    _kernel(
      f'{side}/layers/mlp/{name}/kernel',
      f'{block}.DenseReluDense.{name}.weight',
      shape,
      layers,
    )
    for name, shape in shapes.items()
  ]


def _kernel(
  path: str, name: str, shape: tuple[int, int], layers: int
) -> table.Tensor:
  return table.Tensor(path, name, shape, layers, transpose=True)


def canonical(source: table.Source, *, where: str) -> tuple[table.Source, bool]:
  """The tensors that count, by their canonical names; and if the head is tied.

  A head is tied if it is absent from the file or equal to the embedding. The
  flag in config.json cannot be asked: transformers 5 writes
  `tie_word_embeddings: true` next to an untied head.
  """
  names = {name: name for name in source.shapes if name not in SUPERFLUOUS}
  copies = [name for name in EMBEDDING_COPIES if name in names]
  if EMBEDDING not in names and copies:
    names[EMBEDDING] = copies[0]
  for copy in copies:
    del names[copy]
    if not table.same(source, copy, names[EMBEDDING]):
      raise UserError(
        f'{where}: {copy} differs from {names[EMBEDDING]}, but a T5 has one '
        'embedding for both sides.'
      )
  tied = HEAD not in names
  if (
    EMBEDDING in names
    and not tied
    and table.same(source, HEAD, names[EMBEDDING])
  ):
    del names[HEAD]
    tied = True
  return table.View(source, names), tied
