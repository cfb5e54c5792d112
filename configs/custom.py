r"""Your own task, without code: a file or hub data set, a template, labels.

  python -m ptjax.main --config=configs/custom.py:model=FOLDER \
    --config.custom.train=train.csv --config.custom.dev=dev.csv \
    --config.custom.template='tweet: {text}' --config.custom.target=label \
    --config.custom.labels="('0:no complaint', '1:complaint')"

Files are .jsonl, .json, .csv, .tsv or .parquet; hub:OWNER/NAME:SPLIT is a data
set on the hub. `labels` are words for the values 0, 1, … of the target field,
or 'value:word' each; without them the target field is the answer itself, and
a metric such as exact_match or squad scores it. The longest input, the prompt's
length and the rate are the paper's: see ptjax/config.py.
"""

from ptjax import config as config_lib


def get_config(arg: str | None = None):
  """The paper's setting on the data that the words name."""
  c = config_lib.default()
  c.task = 'custom'
  c.eval.split = 'test'  # custom.test; dev where there is none
  return config_lib.apply_words(c, arg)
