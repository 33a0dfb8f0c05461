"""What is on show as a file: all of it in a ZIP archive, or one page as PDF."""
