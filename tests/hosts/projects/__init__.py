"""A settings module for each host. Its first line says what is special; ``DECLARATIONS`` has what it may declare."""
