"""One module per command: demo, import_mbox and support_traffic."""
