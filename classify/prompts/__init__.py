"""From a row of data to the token ids of its prompt.

`PromptTemplate` is the recipe. `compile` joins it with a tokenizer and labels into a
`CompiledPrompt`, which renders thousands of rows without touching the chat template
again.
"""

from classify.prompts.compiled import CompiledPrompt, EncodedPrompts
from classify.prompts.template import PromptTemplate

__all__ = ["CompiledPrompt", "EncodedPrompts", "PromptTemplate"]
