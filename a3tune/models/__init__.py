"""Load vision-language models, encode questions about images, generate answers."""
