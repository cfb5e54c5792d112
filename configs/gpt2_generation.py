r"""GPT-2 on summarisation, question answering, translation: vectors or words.

A soft prompt of 100 tokens for each task, and against it the instruction in
words that INSTRUCTIONS has for it, on the same frozen model and test rows.

  python -m ptjax.main --config=configs/gpt2_generation.py
  python -m ptjax.main --config=configs/gpt2_generation.py:task=qa,data=DIR
  python -m ptjax.main \
    --config=configs/gpt2_generation.py:prompt=written,task=qa,data=DIR
  python -m ptjax.main \
    --config=configs/gpt2_generation.py:task=translation,data=DIR,model=gpt2-xl

Without `data` XSum, SQuAD and Multi30k (English to German) come from the hub.
SQuAD has no labelled test split: its dev split is reported, and the prompt is
chosen on some 500 questions cut off train. GPT-2 reads 1024 pieces; a longer
text loses its beginning. Scores: ROUGE, exact match and F1, sacreBLEU.
"""

from ptjax import config as config_lib

INSTRUCTIONS = {
  'summarization': 'Summarize the following content :',
  'qa': 'Answer the Following Question',
  'translation': 'Translate the following sentence from english to german :',
}


def get_config(arg: str | None = None):
  """The run that the words after the colon name."""
  words = config_lib.words(arg)
  c = config_lib.default()
  c.model = words.pop('model', 'openai-community/gpt2')
  c.data = 'hub'
  c.task = words.pop('task', 'generation')
  kinds = ('soft', 'written')
  if config_lib.one_of('prompt', words.pop('prompt', 'soft'), kinds) == 'soft':
    c.method.init = 'vocabulary'
  else:
    # One task a command, since each has words of its own.
    one = config_lib.one_of('task', c.task, tuple(INSTRUCTIONS))
    c.method.name, c.method.instruction = 'hard_prompt', INSTRUCTIONS[one]
  c.input_length, c.eval.split = 768, 'test'
  c.train.steps, c.train.batch_size = 5000, 16
  for key, text in words.items():
    config_lib.assign(c, key, text)
  return c
