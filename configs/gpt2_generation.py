r"""GPT-2 on summarisation, question answering, translation: vectors or words.

One task a command, by a soft prompt of 100 tokens and by the instruction in
words that INSTRUCTIONS has for it, on the same frozen model, in one table.

  python -m ptjax.main --config=configs/gpt2_generation.py:task=summarization
  python -m ptjax.main --config=configs/gpt2_generation.py:task=qa,data=DIR
  python -m ptjax.main \
    --config=configs/gpt2_generation.py:task=translation,data=DIR,model=gpt2-xl

Without `data` XSum, SQuAD and Multi30k (English to German) come from the hub.
SQuAD has no labelled test split: its dev split is reported, and the prompt is
chosen on 500 questions cut off train. GPT-2 reads 1024 pieces; a longer text
loses its beginning. Scores: ROUGE, exact match and F1, sacreBLEU.
"""

from ptjax import config as config_lib

INSTRUCTIONS = {
  'summarization': 'Summarize the following content :',
  'qa': 'Answer the Following Question',
  'translation': 'Translate the following sentence from english to german :',
}


def get_config(arg: str | None = None):
  """Both runs of the task that the words after the colon name."""
  words = config_lib.words(arg)
  c = config_lib.default()
  c.model = words.pop('model', 'openai-community/gpt2')
  c.data = 'hub'
  c.task = config_lib.one_of(
    'task', words.pop('task', 'translation'), tuple(INSTRUCTIONS)
  )
  c.ablation.key = 'method.name'
  c.ablation.over = ('soft_prompt', 'hard_prompt')
  c.method.instruction = INSTRUCTIONS[c.task]
  c.method.init = 'vocabulary'
  c.input_length, c.eval.split = 768, 'test'
  c.train.steps, c.train.batch_size = 5000, 16
  for key, text in words.items():
    config_lib.assign(c, key, text)
  return c
