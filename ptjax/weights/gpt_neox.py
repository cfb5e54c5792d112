"""GPT-NeoX and Pythia as transformers names them: tensors, config.

Owns the names and orientation of their tensors in Hugging Face files and the
meaning of their config.json, both ways. Knows no file format.
"""

from collections.abc import Mapping
from typing import Any

from ptjax.config import UserError
from ptjax.models import gpt_neox
from ptjax.weights import causal, settings, table

NETWORK = gpt_neox.GPTNeoX
HEAD = 'embed_out.weight'
BODY = 'gpt_neox.'

# The causal mask and the rotations, which published files carry.
SUPERFLUOUS = r'layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)'

_SIZES = (
  'vocab_size',
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'max_position_embeddings',
)

_IGNORED = ('classifier_dropout', 'hidden_dropout')


def config(
  values: Mapping[str, Any], *, tied: bool, where: str
) -> gpt_neox.GPTNeoXConfig:
  """The network a config.json describes; `tied` is what the tensors say."""
  values = dict(values)
  sizes = settings.sizes(values, _SIZES, kind='GPT-NeoX', where=where)
  width, heads = sizes['hidden_size'], sizes['num_attention_heads']
  head_size = causal.head_size(width, heads, where=where)
  said = settings.Said(values, where)
  base, rotary_size = _rotary(said, head_size)
  result = gpt_neox.GPTNeoXConfig(
    vocab_size=sizes['vocab_size'],
    d_model=width,
    d_ff=sizes['intermediate_size'],
    num_layers=sizes['num_hidden_layers'],
    num_heads=heads,
    head_size=head_size,
    max_positions=sizes['max_position_embeddings'],
    norm_epsilon=said.number('layer_norm_eps', 1e-5),
    activation=causal.activation(said, 'hidden_act', 'gelu'),
    tied=tied,
    parallel_residual=said.flag('use_parallel_residual', True),
    attention_bias=said.flag('attention_bias', True),
    rotary_size=rotary_size,
    rotary_base=base,
    **causal.ids(said, eos_id=2, last=sizes['vocab_size'] - 1),
  )
  causal.refuse_unknown(
    values, ignored=_IGNORED, defaults={}, kind='GPT-NeoX', where=where
  )
  return result


def _rotary(said: settings.Said, head_size: int) -> tuple[float, int]:
  share = said.positive('rotary_pct', 0.25)
  kinds = {'default': ('partial_rotary_factor',)}
  rope = causal.rope(said, base='rotary_emb_base', kinds=kinds)
  share = rope.positive('partial_rotary_factor', share)
  size = int(head_size * share)
  if size % 2 or not 0 < size <= head_size:
    raise UserError(
      f'{said.where}: a share of {share} rotates {size} of {head_size} '
      'features of a head; expected an even number of them.'
    )
  return rope.positive('rope_theta', 10000.0), size


def to_json(config: gpt_neox.GPTNeoXConfig, *, dtype: str) -> dict[str, Any]:
  """A config.json that transformers 4 and 5 read as this network."""
  return {
    'architectures': ['GPTNeoXForCausalLM'],
    'model_type': 'gpt_neox',
    'vocab_size': config.vocab_size,
    'hidden_size': config.d_model,
    'intermediate_size': config.d_ff,
    'num_hidden_layers': config.num_layers,
    'num_attention_heads': config.num_heads,
    'max_position_embeddings': config.max_positions,
    'layer_norm_eps': config.norm_epsilon,
    'hidden_act': config.activation,
    'use_parallel_residual': config.parallel_residual,
    'attention_bias': config.attention_bias,
    'rotary_pct': config.rotary_size / config.head_size,
    'rotary_emb_base': config.rotary_base,
    'tie_word_embeddings': config.tied,
    'bos_token_id': config.eos_id,
    'eos_token_id': config.eos_id,
    'pad_token_id': config.pad_id,
    'torch_dtype': dtype,
  }


def canonical(source: table.Source, *, where: str) -> tuple[table.Source, bool]:
  """The tensors that count, by canonical names; and if the head is tied."""
  return causal.canonical(
    source,
    body=BODY,
    embedding='embed_in.weight',
    head=HEAD,
    superfluous=SUPERFLUOUS,
  )


def tensors(config: gpt_neox.GPTNeoXConfig) -> list[table.Tensor]:
  """Every tensor of the network."""
  V, D, F = config.vocab_size, config.d_model, config.d_ff
  N, heads = config.num_layers, config.num_heads
  block, own = f'{BODY}layers.{{}}', 'layers'
  parts = (heads, 3, config.head_size)
  embedding = f'{BODY}embed_in.weight'
  rows = [table.Tensor('token_embedder/embedding', embedding, (V, D))]
  for path, name in (
    ('pre_attention_norm', 'input_layernorm'),
    ('pre_mlp_norm', 'post_attention_layernorm'),
  ):
    rows += causal.norm(f'{own}/{path}', f'{block}.{name}', D, N)
  rows += causal.norm('norm', f'{BODY}final_layer_norm', D)
  bias = config.attention_bias
  for path, name, sizes, features, biased in (
    ('query_key_value', 'query_key_value', (D, 3 * D), parts, bias),
    ('out', 'dense', (D, D), (), bias),
  ):
    rows += causal.linear(
      f'{own}/attention/{path}',
      f'{block}.attention.{name}',
      sizes,
      N,
      bias=biased,
      features=features,
    )
  rows += causal.linear(
    f'{own}/mlp/wi', f'{block}.mlp.dense_h_to_4h', (D, F), N
  )
  rows += causal.linear(
    f'{own}/mlp/wo', f'{block}.mlp.dense_4h_to_h', (F, D), N
  )
  if not config.tied:
    rows += causal.linear(
      'unembedder', HEAD.removesuffix('.weight'), (D, V), bias=False
    )
  return rows
