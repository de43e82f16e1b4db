"""Small host projects, each of which delivers records with real workers. Adding a host is adding a file to ``projects``."""
