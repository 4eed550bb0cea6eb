"""Models: Hugging Face configurations become layers, layers become operators."""
