r"""Any frozen model, with or without a prompt, without a task.

  python -m ptjax.main --config=configs/model.py:model=FOLDER --mode=predict \
    --input=rows.jsonl --output=answers.jsonl [--prompt=FILE_OR_RUN]

Rows have `inputs` (predict) or `inputs` and `targets` (score), or ids as
`input_ids` and `target_ids`, which are taken as they are.
"""

from ptjax import config as config_lib


def get_config(arg: str | None = None):
  """The default configuration with the words after the colon."""
  c = config_lib.default()
  c.mode = 'predict'
  return config_lib.apply_words(c, arg)
