"""The code blocks of README and docs: each is executed, parsed or compiled."""
