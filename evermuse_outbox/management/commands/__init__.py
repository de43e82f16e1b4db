"""One module for each command of ``manage.py``; Django finds them by their file names."""
