"""How ptjax is installed; what it needs is said here and nowhere else."""

import pathlib

import setuptools

here = pathlib.Path(__file__).parent

setuptools.setup(
  name='ptjax',
  version='0.1.0',
  description='Soft prompt tuning of frozen language models in JAX',
  long_description=(here / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['ptjax', 'ptjax.*']),
  package_data={'ptjax.miniature': ['t5/*', 'gpt/*']},
  install_requires=[
    'absl-py>=2.1',
    'datasets>=4.0',  # the first that runs no code of a repository
    'flax>=0.12',
    'huggingface-hub>=0.30',
    'jax>=0.10.2',
    'ml-collections>=1.0',
    'msgpack>=1.0',
    'numpy>=2.0',
    'optax>=0.2.5',
    'orbax-checkpoint>=0.12',
    'rouge-score>=0.1.2',
    'sacrebleu>=2.4',
    'safetensors>=0.5',
    'sentencepiece>=0.2',
    'tensorboardX>=2.6',
    'tensorstore>=0.1.82',  # the first that reads a part of a file
    'tokenizers>=0.21',
    'tqdm>=4.66',
  ],
  extras_require={
    # PEFT, for benchmarks and tests against it. With transformers 5.24, PEFT
    # 0.21.2 generates what its own forward pass does not say.
    'bench': ['peft>=0.21', 'torch>=2.4', 'transformers>=5.0,<5.24'],
    # The compiler of --mode=plan, in the version of this jax: of another, what
    # is compiled may not be readable. 680 MB; under Google Cloud's terms.
    'plan': ['jax[tpu]'],
    'plots': ['matplotlib>=3.9'],
    'test': ['matplotlib>=3.9', 'pytest>=8', 'pytest-xdist>=3', 'ruff>=0.14'],
    'wandb': ['wandb>=0.20'],
  },
)
