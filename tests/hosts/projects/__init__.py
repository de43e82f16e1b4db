"""A settings module for each host. Its first line says what is special; ``host.py`` says what else it may declare."""
