"""What happens to a record, one file an arrow: seal → send → settle → track, and maintain beside them."""
