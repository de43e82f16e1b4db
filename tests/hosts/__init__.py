"""Small host projects that deliver records with real workers. Adding a host is adding a file to ``projects``."""
