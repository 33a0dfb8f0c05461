"""What is read once for several questions: the beginnings of prompts, and the features of their images."""
