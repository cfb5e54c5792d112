"""Llama-shaped models as transformers names them: tensors, config.

Owns the names and orientation of their tensors in Hugging Face files and the
meaning of their config.json, both ways. Knows no file format.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ptjax.config import UserError
from ptjax.models import llama
from ptjax.weights import causal, settings, table

NETWORK = llama.Llama
HEAD = 'lm_head.weight'
BODY = 'model.'

# The rotations, which old files carry.
SUPERFLUOUS = r'layers\.\d+\.self_attn\.rotary_emb\.inv_freq'

_SIZES = (
  'vocab_size',
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'max_position_embeddings',
)

_DEFAULTS = {'pretraining_tp': (1,)}

# Ours -> theirs, of a rope scaled as in Llama 3.1.
_SCALING = {
  'factor': 'factor',
  'low_freq_factor': 'low_freq_factor',
  'high_freq_factor': 'high_freq_factor',
  'original_max_positions': 'original_max_position_embeddings',
}


def config(
  values: Mapping[str, Any], *, tied: bool, where: str
) -> llama.LlamaConfig:
  """The network a config.json describes; `tied` is what the tensors say."""
  values = dict(values)
  sizes = settings.sizes(values, _SIZES, kind='Llama', where=where)
  width, heads = sizes['hidden_size'], sizes['num_attention_heads']
  said = settings.Said(values, where)
  head_size = said.whole('head_dim', 0, least=0)
  kv_heads = said.whole('num_key_value_heads', heads)
  if heads % kv_heads:
    raise UserError(
      f'{where}: {heads} heads cannot share {kv_heads} heads of keys evenly.'
    )
  kinds = {'default': (), 'llama3': tuple(_SCALING.values())}
  rope = causal.rope(said, base='rope_theta', kinds=kinds)
  result = llama.LlamaConfig(
    vocab_size=sizes['vocab_size'],
    d_model=width,
    d_ff=sizes['intermediate_size'],
    num_layers=sizes['num_hidden_layers'],
    num_heads=heads,
    num_kv_heads=kv_heads,
    head_size=head_size or causal.head_size(width, heads, where=where),
    max_positions=sizes['max_position_embeddings'],
    norm_epsilon=said.number('rms_norm_eps', 1e-6),
    activation=causal.activation(said, 'hidden_act', 'silu'),
    tied=tied,
    rotary_base=rope.positive('rope_theta', 10000.0),
    rope_scaling=_scaling(rope, sizes['max_position_embeddings']),
    attention_bias=said.flag('attention_bias', False),
    mlp_bias=said.flag('mlp_bias', False),
    **causal.ids(said, eos_id=2, last=sizes['vocab_size'] - 1),
  )
  causal.refuse_unknown(values, defaults=_DEFAULTS, kind='Llama', where=where)
  return result


def _scaling(
  rope: settings.Said, max_positions: int
) -> llama.RopeScaling | None:
  if rope.values['rope_type'] == 'default':
    return None
  name = _SCALING['original_max_positions']
  return llama.RopeScaling(
    **{
      own: rope.positive(theirs)
      for own, theirs in _SCALING.items()
      if theirs != name
    },
    original_max_positions=rope.whole(name, max_positions),
  )


def to_json(config: llama.LlamaConfig, *, dtype: str) -> dict[str, Any]:
  """A config.json that transformers 4 and 5 read as this network."""
  scaling = None
  if config.rope_scaling is not None:
    said = dataclasses.asdict(config.rope_scaling)
    scaling = {key: said[own] for own, key in _SCALING.items()}
    scaling['rope_type'] = 'llama3'
  return {
    'architectures': ['LlamaForCausalLM'],
    'model_type': 'llama',
    'vocab_size': config.vocab_size,
    'hidden_size': config.d_model,
    'intermediate_size': config.d_ff,
    'num_hidden_layers': config.num_layers,
    'num_attention_heads': config.num_heads,
    'num_key_value_heads': config.num_kv_heads,
    'head_dim': config.head_size,
    'max_position_embeddings': config.max_positions,
    'rms_norm_eps': config.norm_epsilon,
    'hidden_act': config.activation,
    'rope_theta': config.rotary_base,
    'rope_scaling': scaling,
    'attention_bias': config.attention_bias,
    'mlp_bias': config.mlp_bias,
    'tie_word_embeddings': config.tied,
    'eos_token_id': config.eos_id,
    'pad_token_id': config.pad_id,
    'torch_dtype': dtype,
  }


def canonical(source: table.Source, *, where: str) -> tuple[table.Source, bool]:
  """The tensors that count, by canonical names; and if the head is tied."""
  return causal.canonical(
    source,
    body=BODY,
    embedding='embed_tokens.weight',
    head=HEAD,
    superfluous=SUPERFLUOUS,
  )


def tensors(config: llama.LlamaConfig) -> list[table.Tensor]:
  """Every tensor of the network."""
  V, D, N = config.vocab_size, config.d_model, config.num_layers
  block, own = f'{BODY}layers.{{}}', 'layers'
  embedding = f'{BODY}embed_tokens.weight'
  rows = [table.Tensor('token_embedder/embedding', embedding, (V, D))]
  for path, name in (
    ('pre_attention_norm', 'input_layernorm'),
    ('pre_mlp_norm', 'post_attention_layernorm'),
  ):
    rows += causal.norm(f'{own}/{path}', f'{block}.{name}', D, N, bias=False)
  rows += causal.norm('norm', f'{BODY}norm', D, bias=False)
  rows += _attention(f'{own}/attention', f'{block}.self_attn', config)
  rows += _mlp(f'{own}/mlp', f'{block}.mlp', config)
  if not config.tied:
    rows += causal.linear(
      'unembedder', HEAD.removesuffix('.weight'), (D, V), bias=False
    )
  return rows


def _attention(
  own: str, block: str, config: llama.LlamaConfig
) -> list[table.Tensor]:
  D, K, N = config.d_model, config.head_size, config.num_layers
  rows = []
  for path, name, heads in (
    ('query', 'q_proj', config.num_heads),
    ('key', 'k_proj', config.num_kv_heads),
    ('value', 'v_proj', config.num_kv_heads),
  ):
    rows += causal.linear(
      f'{own}/{path}',
      f'{block}.{name}',
      (D, heads * K),
      N,
      bias=config.attention_bias,
      features=(heads, K),
    )
  sizes = (config.num_heads * K, D)
  bias = config.attention_bias
  return rows + causal.linear(
    f'{own}/out', f'{block}.o_proj', sizes, N, bias=bias
  )


def _mlp(own: str, block: str, config: llama.LlamaConfig) -> list[table.Tensor]:
  D, F, N = config.d_model, config.d_ff, config.num_layers
  rows = []
  for path, name, sizes in (
    ('wi_0', 'gate_proj', (D, F)),
    ('wi_1', 'up_proj', (D, F)),
    ('wo', 'down_proj', (F, D)),
  ):
    rows += causal.linear(
      f'{own}/{path}', f'{block}.{name}', sizes, N, bias=config.mlp_bias
    )
  return rows
